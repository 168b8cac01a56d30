#include "data/png.h"

#include "data/file.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <string>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t longest_file = 256 << 20;

/// libpng reports errors by longjmp: every call that may do so goes through attempt(), whose callee holds nothing to destroy.
class Decoder {
 public:
  Decoder(const fs::path& file, Bytes bytes) : file_(file), bytes_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, [](png_structp, png_const_charp) {});
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) fail(ExitCode::memory, "libpng does not start");
  }
  Decoder(const Decoder&) = delete;
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }

  PngImage decode(Extent most) {
    require_size(most);
    attempt([this] {
      // Texts, profiles and palettes of no use here: not unpacked, so that none can be a bomb.
      static const png_byte unused[] = "iCCP\0iTXt\0tEXt\0zTXt\0sPLT\0eXIf\0hIST";
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, unused, sizeof unused / 5);
      png_set_read_fn(png_, this, on_read);
      png_read_info(png_, info_);
    });
    const png_uint_32 height = png_get_image_height(png_, info_), width = png_get_image_width(png_, info_);
    PngImage image{.size = {static_cast<int>(height), static_cast<int>(width)}};
    const png_byte colour = png_get_color_type(png_, info_);
    const bool transparent = png_get_valid(png_, info_, PNG_INFO_tRNS) != 0;
    image.converted = colour != PNG_COLOR_TYPE_RGB || png_get_bit_depth(png_, info_) != 8 || transparent;
    attempt([&] {
      png_set_scale_16(png_);
      png_set_expand(png_);  // palettes, fewer than 8 bits, a transparent colour
      if ((colour & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png_);
      png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
    });
    const std::size_t channels = png_get_channels(png_, info_);
    const std::size_t row_bytes = png_get_rowbytes(png_, info_);
    require(row_bytes == channels * width && (channels == 3 || channels == 4), "png: libpng gave ", channels,
            " channels in rows of ", row_bytes);

    std::vector<std::uint8_t> pixels(row_bytes * height);
    std::vector<png_bytep> rows(height);
    for (std::size_t y = 0; y < height; ++y) rows[y] = pixels.data() + y * row_bytes;
    attempt([&] {
      png_read_image(png_, rows.data());
      png_read_end(png_, nullptr);
    });
    image.pixels = channels == 3 ? std::move(pixels) : over_white(pixels);
    return image;
  }

 private:
  /// Width and height stand at a fixed place; libpng would come to them only after every chunk before the image.
  void require_size(Extent most) const {
    constexpr std::size_t signature = 8, width_at = 16, height_at = 20, header_end = 24;
    const auto* bytes = reinterpret_cast<png_const_bytep>(bytes_.data());
    if (bytes_.size() < header_end || png_sig_cmp(bytes, 0, signature) != 0) return;  // libpng says what is wrong
    const png_uint_32 width = png_get_uint_32(bytes + width_at), height = png_get_uint_32(bytes + height_at);
    if (height <= static_cast<png_uint_32>(most.h) && width <= static_cast<png_uint_32>(most.w)) return;
    fail(ExitCode::data, "an image is larger than it may be",
         {.where = file_.string(),
          .expected = fmt::format("at most {} x {}", most.h, most.w),
          .found = fmt::format("{} x {}", height, width),
          .next = "cut it into patches of that size"});
  }

  static std::vector<std::uint8_t> over_white(const std::vector<std::uint8_t>& rgba) {
    std::vector<std::uint8_t> rgb;
    rgb.reserve(rgba.size() / 4 * 3);
    for (std::size_t i = 0; i < rgba.size(); i += 4) {
      const unsigned alpha = rgba[i + 3];
      for (std::size_t c = 0; c < 3; ++c)
        rgb.push_back(static_cast<std::uint8_t>((rgba[i + c] * alpha + 255 * (255 - alpha) + 127) / 255));
    }
    return rgb;
  }

  template <class Call>
  void attempt(const Call& call) {
    if (!returns(call)) {
      const std::string kind = kind_of_file(file_);
      const bool other = !kind.empty() && kind != "a PNG image";
      fail(ExitCode::data, "an image is no PNG file, or is damaged or cut short",
           {.where = file_.string(), .found = other ? kind : message_, .next = "get the file again, or remove it"});
    }
  }

  template <class Call>
  bool returns(const Call& call) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    call();
    return true;
  }

  static void on_error(png_structp png, png_const_charp message) {
    auto& self = *static_cast<Decoder*>(png_get_error_ptr(png));
    std::snprintf(self.message_, sizeof self.message_, "%s", message);
    png_longjmp(png, 1);
  }

  static void on_read(png_structp png, png_bytep to, png_size_t count) {
    auto& self = *static_cast<Decoder*>(png_get_io_ptr(png));
    if (count > self.bytes_.size()) png_error(png, "the file ends too early");
    std::memcpy(to, self.bytes_.data(), count);
    self.bytes_ = self.bytes_.subspan(count);
  }

  const fs::path& file_;
  Bytes bytes_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char message_[128] = {};
};

}  // namespace

PngImage read_png(const fs::path& file, Extent most) {
  const std::vector<std::byte> bytes = read_whole(file, ExitCode::data, longest_file);
  return Decoder(file, bytes).decode(most);
}

void write_png(const fs::path& file, Extent size, const std::uint8_t* pixels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(size.w);
  image.height = static_cast<png_uint_32>(size.h);
  image.format = PNG_FORMAT_RGB;
  if (png_image_write_to_file(&image, file.c_str(), 0, pixels, 0, nullptr) != 0) return;
  fail(ExitCode::memory, "an image could not be written",
       {.where = file.string(), .found = image.message, .next = "make room on the disk, or name another folder"});
}

}  // namespace microtome
