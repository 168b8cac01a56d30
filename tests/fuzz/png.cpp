// PNG files, as a data set's or as images to score: what the child does with them, without the child.
#include "data/png.h"

#include "fuzz/fuzz.h"

#include <zlib.h>

namespace microtome::fuzz {

namespace {

std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

std::string chunk(const std::string& type, const std::string& data) {
  const std::string body = type + data;
  const auto sum = ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  return big_endian(static_cast<std::uint32_t>(data.size())) + body + big_endian(static_cast<std::uint32_t>(sum));
}

std::string png(int depth, int colour, int interlace, const std::string& more, std::size_t row_bytes) {
  std::string header = big_endian(4) + big_endian(3);
  for (const int value : {depth, colour, 0, 0, interlace}) header.push_back(static_cast<char>(value));
  std::string rows;
  for (int y = 0; y < 8; ++y) rows += std::string(1, static_cast<char>(y % 5)) + std::string(row_bytes, static_cast<char>(y));
  std::string packed(::compressBound(rows.size()), '\0');
  uLongf size = packed.size();
  ::compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(rows.data()), rows.size());
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + more + chunk("IDAT", packed.substr(0, size)) + chunk("IEND", "");
}

/// Sums made right, which would keep a fuzzer out.
std::string with_right_sums(std::string text) {
  for (std::size_t at = 8; at + 12 <= text.size();) {
    std::uint32_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8 | static_cast<unsigned char>(text[at + i]);
    if (length > text.size() - at - 12) break;
    const auto* const body = reinterpret_cast<const Bytef*>(text.data() + at + 4);
    text.replace(at + 8 + length, 4, big_endian(static_cast<std::uint32_t>(::crc32(0, body, length + 4))));
    at += 12 + length;
  }
  return text;
}

}  // namespace

std::vector<std::string> seeds() {
  using std::string_literals::operator""s;
  return {png(8, 2, 0, "", 12),
          png(8, 2, 1, chunk("tRNS", "\0\1\0\1\0\1"s) + chunk("gAMA", "\0\0\x27\x10"s), 12),
          png(16, 6, 0, chunk("tEXt", "a\0b"s), 32),
          png(8, 3, 0, chunk("PLTE", "\1\2\3\4\5\6\7\x08\x09"s) + chunk("tRNS", "\x7f\0"s), 4),
          png(1, 0, 1, "", 1),
          png(16, 4, 0, chunk("bKGD", "\0\1"s), 16)};
}

}  // namespace microtome::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace microtome;
  using namespace microtome::fuzz;
  static MemoryFile as_is, summed;
  const std::string text(text_of({bytes, size}));
  static PngReader reader;
  constexpr Extent most = 64;
  const std::filesystem::path files[] = {as_is.hold(text), summed.hold(with_right_sums(text))};
  may_refuse([&] {
    std::size_t next = 0;
    reader.read(
        files, most,
        [&](std::size_t i, const PngImage& image) {
          expect(i == next++, "files out of order");
          expect(image.size.h > 0 && image.size.h <= most.h && image.size.w > 0 && image.size.w <= most.w,
                 "an image of a size that it may not have");
          expect(image.pixels.size() == static_cast<std::size_t>(image.size.h) * static_cast<std::size_t>(image.size.w) * 3,
                 "pixels of another size");
        },
        [&](std::size_t i, const Error& error) {
          expect(i == next++ && error.code() == ExitCode::data, "a refusal of another kind");
        });
    expect(next == 2, "a file was passed over");
  });
  return 0;
}
