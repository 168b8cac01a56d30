// Digests of files, by OpenSSL.
#pragma once

#include <filesystem>
#include <string>

namespace microtome {

/// Lower-case hexadecimal. MD5 tells files apart that were damaged on the way, not files that were forged. Throws
/// Error(ExitCode::data) where the file cannot be read.
std::string md5(const std::filesystem::path& file);

}  // namespace microtome
