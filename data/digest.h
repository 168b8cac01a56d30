// Digests of files and images, by OpenSSL.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace microtome {

/// Lower-case hexadecimal. MD5 tells files apart that were damaged on the way, not files that were forged. Throws
/// Error(ExitCode::data) where the file cannot be read.
std::string md5(const std::filesystem::path& file);

/// SHA-256: what has the same digest is the same.
using Digest = std::array<std::uint8_t, 32>;
Digest sha256(std::span<const std::uint8_t> bytes);

/// SHA-256 of a text, in hexadecimal.
std::string text_digest(std::string_view text);

/// Lower-case hexadecimal.
std::string hexadecimal(std::span<const std::uint8_t> bytes);

}  // namespace microtome
