// Who a patch is of, as the names of files say it.
#pragma once

#include <string>
#include <string_view>

namespace microtome {

/// "8863" of "8863_idx5_x51_y1251_class0.png", IDC's form; empty where a file's name is of another.
std::string patient_in_name(std::string_view file_name);

/// By the file's name, or by a folder of IDC's: PATIENT/0/….
std::string patient_in_path(std::string_view path);

/// Whether it says that nobody knows, as tables do: "", "NA", "nan", "None", "?", …
bool is_unknown(std::string_view patient);

}  // namespace microtome
