// CSV files of scores, from anywhere, and the lines of all CSV files.
#include "tools/report/scores.h"
#include "data/csv.h"
#include "fuzz/fuzz.h"

#include <algorithm>
#include <cmath>

namespace microtome::fuzz {

std::vector<std::string> seeds() {
  Images images;
  images.labels = {0, 1, 1};
  images.groups = {"a", "b \"c\", d", "a"};
  const std::vector<float> scores{0.25f, 1, 0};
  return {scores_csv(images, scores), "label,score\n0,0.5\n1,1e-3\n",
          "y_true;y_pred;patient\r\nTrue;0,75;x\r\nFalse;0,25;y\r\n",
          "\xef\xbb\xbf"
          "file\tlogit\tclass\n8863_idx5_x51_y1251_class0.png\t-3.5\t0\na/1/b.png\t2\t1\n",
          "\"id\",\"label\",\"probability\"\n\"a \"\"b\"\"\",0,0\n"};
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::fuzz;
  static MemoryFile file;
  const std::string_view text = text_of({bytes, size});
  file.hold(text);
  for (const Scale scale : {Scale::as_named, Scale::logits}) {
    may_refuse([&] {
      const LabelledScores read = read_scores(file.path(), scale);
      const std::size_t n = read.labels.size();
      expect(read.scores.size() == n && (read.ids.empty() || read.ids.size() == n) &&
                 (read.groups.empty() || read.groups.size() == n),
             "the columns of scores differ in length");
      for (std::size_t i = 0; i < n; ++i) {
        expect(read.labels[i] <= 1 && std::isfinite(read.scores[i]), "a label or score cannot be one");
        expect(read.logits || (read.scores[i] >= 0 && read.scores[i] <= 1), "a probability cannot be one");
      }
    });
  }
  const std::string record = csv_field(text) + ",b\n";
  std::string_view left = record, taken;
  expect(take_csv_record(left, taken) && left.empty(), "a record does not end where it was written to");
  const std::vector<std::string> fields = csv_fields(taken);
  expect(fields.size() == 2 && fields[0] == text && fields[1] == "b", "a field does not come back as it was written");
  return 0;
}
