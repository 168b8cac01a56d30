// The origins of PCam's patches: camelyonpatch_level_2_split_*_meta.csv.
#include "data/pcam.h"
#include "fuzz/fuzz.h"

namespace microtome::fuzz {

std::vector<std::string> seeds() {
  return {"coord_y,coord_x,wsi\n1,2,camelyon16_train_normal_033\n3,4,camelyon16_train_tumor_001\n",
          ",wsi,center_tumor_patch\n0,a,True\n1,b,False\n", ",wsi,\"tumor\"\r\n0,\"a,\"\"b\",1\r\n1, c ,0\r\n"};
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::fuzz;
  static MemoryFile file;
  file.hold({bytes, size});
  constexpr std::uint8_t labels[] = {1, 0};
  may_refuse([&] {
    std::vector<std::string> notes;
    const std::vector<std::string> slides = read_slides(file.path(), labels, notes);
    expect(slides.size() == std::size(labels) && !slides[0].empty() && !slides[1].empty(), "a patch has no slide");
  });
  return 0;
}
