// Who a patch is of, and its class, as the names of files say it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace microtome {

/// "8863" of "8863_idx5_x51_y1251_class0.png", IDC's form; empty where a file's name is of another.
std::string patient_in_name(std::string_view file_name);

/// By the file's name, or by a folder of IDC's: PATIENT/0/….
std::string patient_in_path(std::string_view path);

/// 1 of "…_class1.png"; nothing where a name says none.
std::optional<std::uint8_t> class_in_name(std::string_view file_name);

/// Whether it says that nobody knows, as tables do: "", "NA", "nan", "None", "?", …
bool is_unknown(std::string_view patient);

}  // namespace microtome
