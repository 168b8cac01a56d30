#include "data/png.h"

#include "data/support.h"

#include <png.h>
#include <zlib.h>

#include <dlfcn.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>

namespace {

constexpr unsigned crashing_width = 13, endless_width = 14, hungry_width = 15;
const auto real_update = reinterpret_cast<void (*)(png_structrp, png_inforp)>(::dlsym(RTLD_NEXT, "png_read_update_info"));

}  // namespace

// libpng's own is used but for images of three widths: no file is known that harms it.
extern "C" void png_read_update_info(png_structrp png, png_inforp info) {
  const unsigned width = png_get_image_width(png, info);
  if (width == crashing_width) __builtin_trap();
  if (width == hungry_width) png_malloc(png, PTRDIFF_MAX);
  for (volatile bool endless = width == endless_width; endless;) {
  }
  real_update(png, info);
}

namespace microtome {
namespace {

/// A PNG file chunk by chunk, right checksums included: libpng would refuse to write most of what these tests need.
class PngBuilder {
 public:
  PngBuilder(std::uint32_t width, std::uint32_t height, int depth, int colour, int interlace = 0) {
    const char signature[] = "\x89PNG\r\n\x1a\n";
    bytes_.assign(signature, signature + 8);
    std::string header = big_endian(width) + big_endian(height);
    for (const int value : {depth, colour, 0, 0, interlace}) header.push_back(static_cast<char>(value));
    chunk("IHDR", header);
  }

  PngBuilder& chunk(const std::string& type, const std::string& data, bool sound = true) {
    append(big_endian(static_cast<std::uint32_t>(data.size())));
    const std::string body = type + data;
    append(body);
    const auto sum =
        static_cast<std::uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size())));
    append(big_endian(sound ? sum : ~sum));
    return *this;
  }
  /// Rows as they are: each its filter byte, then its bytes.
  PngBuilder& image(const std::string& rows) {
    std::string packed(compressBound(rows.size()), '\0');
    uLongf size = packed.size();
    compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(rows.data()), rows.size());
    return chunk("IDAT", packed.substr(0, size));
  }
  std::vector<char> end() { return chunk("IEND", "").bytes_; }
  const std::vector<char>& bytes() const { return bytes_; }

 private:
  static std::string big_endian(std::uint32_t value) {
    return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
            static_cast<char>(value)};
  }
  void append(const std::string& text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }

  std::vector<char> bytes_;
};

/// An image that outlives its reader.
struct Image {
  Extent size = 0;
  std::vector<std::uint8_t> pixels;
  bool converted = false;
};

Image read_png(const std::filesystem::path& file, Extent most) {
  static PngReader reader;
  Image image;
  reader.read({&file, 1}, most, [&](std::size_t, const PngImage& png) {
    image = {.size = png.size, .pixels = {png.pixels.begin(), png.pixels.end()}, .converted = png.converted};
  });
  return image;
}

class PngTest : public testing::Test {
 protected:
  Image read(const std::vector<char>& bytes, Extent most = 64) const {
    write_bytes(file_, bytes);
    return read_png(file_, most);
  }
  void expect_refused(const std::vector<char>& bytes, const std::vector<std::string>& parts = {}) const {
    write_bytes(file_, bytes);
    expect_refusal([&] { read_png(file_, 64); }, ExitCode::data, parts);
  }

  TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "a.png";
};

using Pixels = std::vector<std::uint8_t>;

TEST_F(PngTest, WhatWasWrittenComesBack) {
  Pixels pixels(7 * 5 * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 37);
  write_png(file_, {7, 5}, pixels.data());
  const Image image = read_png(file_, {7, 5});
  EXPECT_EQ(image.size, Extent(7, 5));
  EXPECT_EQ(image.pixels, pixels);
  EXPECT_FALSE(image.converted);
}

TEST_F(PngTest, EveryKindOfPngBecomesRgb) {
  using std::string_literals::operator""s;
  // 2 x 1 each: one row, a filter byte first.
  const auto rgb = read(PngBuilder(2, 1, 8, 2).image("\0\x01\x02\x03\xff\x80\x40"s).end());
  EXPECT_EQ(rgb.pixels, (Pixels{1, 2, 3, 255, 128, 64}));
  EXPECT_FALSE(rgb.converted);
  const auto grey = read(PngBuilder(2, 1, 8, 0).image("\0\x10\xf0"s).end());
  EXPECT_EQ(grey.pixels, (Pixels{16, 16, 16, 240, 240, 240}));
  EXPECT_TRUE(grey.converted);
  EXPECT_EQ(read(PngBuilder(2, 1, 1, 0).image("\0\x40"s).end()).pixels, (Pixels{0, 0, 0, 255, 255, 255}));
  const auto palette = read(PngBuilder(2, 1, 8, 3).chunk("PLTE", "\x01\x02\x03\x04\x05\x06"s).image("\0\x01\x00"s).end());
  EXPECT_EQ(palette.pixels, (Pixels{4, 5, 6, 1, 2, 3}));
  EXPECT_TRUE(palette.converted);
  // 16 bits: 0x0101 v is v; 0x00ff is nearer to 1 than to 0.
  const auto deep = read(PngBuilder(2, 1, 16, 2).image("\0\x01\x01\x02\x02\x03\x03\x00\xff\xff\xff\x00\x00"s).end());
  EXPECT_EQ(deep.pixels, (Pixels{1, 2, 3, 1, 255, 0}));
  EXPECT_TRUE(deep.converted);
  // Transparency lies over white: alpha 0 gives white, 51 of 255 a fifth of the colour.
  const auto alpha = read(PngBuilder(2, 1, 8, 6).image("\0\x01\x02\x03\x00\x00\x64\xff\x33"s).end());
  EXPECT_EQ(alpha.pixels, (Pixels{255, 255, 255, 204, 224, 255}));
  EXPECT_TRUE(alpha.converted);
  EXPECT_EQ(read(PngBuilder(1, 1, 8, 6).image("\0\x01\x01\x01\x80"s).end()).pixels, (Pixels{128, 128, 128})) << "of 127.502";
  EXPECT_EQ(read(PngBuilder(2, 1, 8, 4).image("\0\x00\xff\x00\x00"s).end()).pixels, (Pixels{0, 0, 0, 255, 255, 255}));
  const auto keyed =
      read(PngBuilder(2, 1, 8, 2).chunk("tRNS", "\0\x01\0\x02\0\x03"s).image("\0\x01\x02\x03\x04\x05\x06"s).end());
  EXPECT_EQ(keyed.pixels, (Pixels{255, 255, 255, 4, 5, 6}));
  EXPECT_TRUE(keyed.converted);
  // Interlaced, 1 x 1: one pass.
  EXPECT_EQ(read(PngBuilder(1, 1, 8, 2, 1).image("\0\x07\x08\x09"s).end()).pixels, (Pixels{7, 8, 9}));
}

TEST_F(PngTest, GammaChunksChangeNothing) {
  using std::string_literals::operator""s;
  const auto image = read(PngBuilder(1, 1, 8, 2).chunk("gAMA", "\0\0\x27\x10"s).image("\0\x40\x50\x60"s).end());
  EXPECT_EQ(image.pixels, (Pixels{0x40, 0x50, 0x60}));
}

TEST_F(PngTest, BadFilesAreRefused) {
  using std::string_literals::operator""s;
  const std::string row = "\0\x01\x02\x03"s;
  expect_refused({}, {"no PNG file", file_.string()});
  expect_refused({'G', 'I', 'F', '8', '9', 'a', 0, 0, 0}, {"Not a PNG file"});
  expect_refused(PngBuilder(1, 1, 8, 2).bytes(), {"ends too early"});
  expect_refused(PngBuilder(1, 1, 8, 2).image(row).bytes(), {"ends too early"});
  expect_refused(PngBuilder(1, 1, 8, 2).chunk("IDAT", "nonsense").end());
  expect_refused(PngBuilder(1, 1, 8, 2).chunk("IDAT", "x", false).end(), {"CRC"});
  expect_refused(PngBuilder(1, 1, 8, 2).end());
  expect_refused(PngBuilder(1, 1, 7, 2).image(row).end());
  expect_refused(PngBuilder(1, 1, 8, 5).image(row).end());
  expect_refused(PngBuilder(0, 1, 8, 2).image(row).end());
  expect_refused(PngBuilder(1, 1, 8, 3).image("\0\0"s).end());
  expect_refused(PngBuilder(2, 2, 8, 2).image("\0\x01\x02\x03"s).end());
  expect_refused(PngBuilder(1, 1, 8, 2).chunk("ABCD", "").image(row).end());
  expect_refusal([&] { read_png(folder_ / "none.png", 64); }, ExitCode::data, {"none.png"});
}

TEST_F(PngTest, AnImageThatClaimsToBeHugeIsRefusedFromItsHeader) {
  expect_refused(PngBuilder(65535, 65535, 16, 6).end(), {"larger than it may be", "65535 x 65535", "at most 64 x 64"});
  expect_refused(PngBuilder(0x7fffffff, 0x7fffffff, 8, 2).end());
  expect_refused(PngBuilder(65, 64, 8, 2).end(), {"64 x 65"});
  // A row of data that unpacks to 64 MiB for an image of one pixel: libpng stops at the pixel.
  using std::string_literals::operator""s;
  const auto image = read(PngBuilder(1, 1, 8, 2).image("\0\x01\x02\x03"s + std::string(64 << 20, '\0')).end());
  EXPECT_EQ(image.pixels, (Pixels{1, 2, 3}));
}

TEST_F(PngTest, TextsAndProfilesThatUnpackToMuchAreNotUnpacked) {
  using std::string_literals::operator""s;
  const std::string bomb(16 << 20, 'a');
  std::string packed(compressBound(bomb.size()), '\0');
  uLongf size = packed.size();
  compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(bomb.data()), bomb.size());
  packed.resize(size);
  const auto image = read(
      PngBuilder(1, 1, 8, 2).chunk("zTXt", "k\0\0"s + packed).chunk("iCCP", "p\0\0"s + packed).image("\0\x01\x02\x03"s).end());
  EXPECT_EQ(image.pixels, (Pixels{1, 2, 3}));
}

TEST_F(PngTest, EveryTruncationIsRefused) {
  Pixels pixels(20 * 20 * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 131 >> 3);
  write_png(file_, 20, pixels.data());
  const std::vector<char> bytes = read_bytes(file_);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    expect_refused({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
    ASSERT_FALSE(HasFailure()) << size << " bytes";
  }
}

TEST_F(PngTest, AFlippedBitIsRefusedOrChangesNothing) {
  Pixels pixels(20 * 20 * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 131 >> 3);
  write_png(file_, 20, pixels.data());
  const std::vector<char> bytes = read_bytes(file_);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::vector<char> flipped = bytes;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << i % 8));
    write_bytes(file_, flipped);
    try {
      EXPECT_EQ(read_png(file_, 64).pixels, pixels) << "byte " << i;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::data) << "byte " << i;
    }
  }
}

TEST_F(PngTest, AFileThatHarmsLibpngIsRefusedAndNoOtherIsLost) {
  const Pixels pixels(14 * 3, 7);
  std::vector<std::filesystem::path> files;
  std::map<std::size_t, std::string> expected;
  for (std::size_t i = 0; i < 200; ++i) {
    files.push_back(folder_ / fmt::format("{}.png", i));
    if (i == 10 || i == 70 || i == 71 || i == 199) {
      write_png(files.back(), {1, crashing_width}, pixels.data());
      expected[i] = "it crashes the library that reads it";
    } else if (i == 150) {
      write_png(files.back(), {1, endless_width}, pixels.data());
      expected[i] = "it does not come forward";
    } else if (i == 69 || i == 72) {
      write_bytes(files.back(), {'x'});
      expected[i] = "no PNG file";
    } else {
      write_png(files.back(), {1, 1 + static_cast<int>(i % 10)}, pixels.data());
    }
  }
  PngReader reader;
  std::size_t next = 0;
  const auto taken = [&](std::size_t i, const PngImage& image) {
    EXPECT_EQ(i, next++);
    EXPECT_EQ(image.size, Extent(1, 1 + static_cast<int>(i % 10)));
    EXPECT_EQ(std::ranges::count(image.pixels, 7), std::ssize(image.pixels));
  };
  reader.read(files, 64, taken, [&](std::size_t i, const Error& error) {
    EXPECT_EQ(i, next++);
    EXPECT_EQ(error.code(), ExitCode::data);
    const std::string text = to_text(error, "test");
    EXPECT_NE(text.find(expected[i]), text.npos) << text;
    EXPECT_NE(text.find(files[i].string()), text.npos) << text;
    expected.erase(i);
  });
  EXPECT_EQ(next, files.size());
  EXPECT_TRUE(expected.empty());
  // And where the first is thrown the reader serves again.
  expect_refusal([&] { reader.read(files, 64, [](std::size_t, const PngImage&) {}); }, ExitCode::data, {"10.png", "crashes"});
  reader.read(std::span(files).first(1), 64, [](std::size_t, const PngImage& image) { EXPECT_EQ(image.size, Extent(1, 1)); });
}

TEST_F(PngTest, MemoryThatLibpngLacksIsNotTheFilesFault) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's malloc does not fail: it ends the process";
#endif
  const Pixels pixels(hungry_width * 3, 7);
  write_png(file_, {1, hungry_width}, pixels.data());
  PngReader reader;
  expect_refusal(
      [&] {
        reader.read({&file_, 1}, 64, [](std::size_t, const PngImage&) {});
      },
      ExitCode::memory, {"memory is short", file_.string()});
  write_png(file_, {1, 1}, pixels.data());
  reader.read({&file_, 1}, 64, [](std::size_t, const PngImage& image) { EXPECT_EQ(image.size, Extent(1, 1)); });
}

TEST_F(PngTest, ImagesLargerThanTheSharedMemoryAreReadAmongSmallOnes) {
  const Pixels large(1000 * 900 * 3, 200), small(3, 100);
  std::vector<std::filesystem::path> files;
  for (int i = 0; i < 10; ++i) {
    files.push_back(folder_ / fmt::format("{}.png", i));
    if (i % 3 == 1)
      write_png(files.back(), {1000, 900}, large.data());
    else
      write_png(files.back(), 1, small.data());
  }
  std::size_t next = 0;
  PngReader().read(files, 1000, [&](std::size_t i, const PngImage& image) {
    EXPECT_EQ(i, next++);
    EXPECT_TRUE(std::ranges::equal(image.pixels, i % 3 == 1 ? large : small)) << i;
  });
  EXPECT_EQ(next, files.size());
}

}  // namespace
}  // namespace microtome
