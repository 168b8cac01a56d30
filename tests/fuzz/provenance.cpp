// What weights say of their own training: JSON in files of weights, checkpoints and ONNX models. Its checksum would keep a
// fuzzer out: of every input that is a document, what it becomes under a right one is read too.
#include "data/provenance.h"

#include "fuzz/fuzz.h"

#include <zlib.h>
#include <nlohmann/json.hpp>

namespace microtome::fuzz {

std::vector<std::string> seeds() {
  Provenance p;
  p.network = "b6", p.image = {50, 40}, p.preprocess = "native", p.mode = "full", p.format = "idc", p.split_by = "patient";
  p.split_seed = 3, p.valid_share = 0.1, p.learned_images = {1, 2, 3}, p.earlier_groups = {"x"};
  p.splits[0] = {.images = 12, .digest = "00ff", .groups = {"a", "b"}};
  return {to_json(p), to_json({})};
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::fuzz;
  const auto read = [](std::string_view text) {
    may_refuse([&] {
      const Provenance provenance = parse_provenance(text, "some.file");
      describe(provenance);
      const std::string written = to_json(provenance);
      expect(to_json(parse_provenance(written, "some.file")) == written, "a provenance does not come back as it was written");
    });
  };
  const std::string_view text = text_of({bytes, size});
  read(text);
  nlohmann::json all = nlohmann::json::parse(text, nullptr, false);
  if (!all.is_object()) return 0;
  all.erase("crc32");
  try {
    const std::string body = all.dump();
    const auto sum = ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
    char digits[9];
    std::snprintf(digits, sizeof digits, "%08lx", sum);
    all["crc32"] = digits;
    read(all.dump());
  } catch (const nlohmann::json::exception&) {  // no UTF-8
  }
  return 0;
}
