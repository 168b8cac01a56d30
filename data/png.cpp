#include "data/png.h"

#include "data/file.h"
#include "engine/host_memory.h"

#include <png.h>

#include <algorithm>
#include <atomic>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

namespace microtome {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t longest_file = 256 << 20;

constexpr std::size_t signature_bytes = 8, width_at = 16, height_at = 20, header_end = 24;

std::uint32_t big_endian(Bytes bytes) {
  std::uint32_t value = 0;
  for (const std::byte byte : bytes.first(4)) value = value << 8 | static_cast<std::uint32_t>(byte);
  return value;
}

/// Width and height stand at a fixed place; libpng would come to them only after every chunk before the image. 0 x 0 where it
/// is for libpng to say what is wrong.
Extent size_in_header(Bytes bytes, const fs::path& file, Extent most) {
  constexpr unsigned char signature[signature_bytes] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  if (bytes.size() < header_end || std::memcmp(bytes.data(), signature, sizeof signature) != 0) return 0;
  const std::uint32_t width = big_endian(bytes.subspan(width_at)), height = big_endian(bytes.subspan(height_at));
  if (height <= static_cast<std::uint32_t>(most.h) && width <= static_cast<std::uint32_t>(most.w))
    return {static_cast<int>(height), static_cast<int>(width)};
  fail(ExitCode::data, "an image is larger than it may be",
       {.where = file.string(),
        .expected = fmt::format("at most {} x {}", most.h, most.w),
        .found = fmt::format("{} x {}", height, width),
        .next = "cut it into patches of that size"});
}

std::size_t pixel_bytes(Extent size) {
  return static_cast<std::size_t>(size.h) * static_cast<std::size_t>(size.w) * 3;
}

/// What parent and child both see: this, then files, and behind each the room for its pixels.
struct Batch {
  struct File {
    std::size_t at = 0, bytes = 0;
    Extent size = 0;
    // The child's answer.
    std::uint8_t decoded = 0, converted = 0, lacked_memory = 0;
    char message[128] = {};  // why it is not decoded
  };
  std::size_t count = 0;
  std::size_t begun = 0;  // files that the child has begun with
  File files[PngReader::most_at_once];
};
constexpr std::size_t least_memory = sizeof(Batch) + (1 << 20);

/// libpng reports errors by longjmp: every call that may do so goes through attempt(), whose callee holds nothing to destroy.
class Decoder {
 public:
  Decoder(Bytes bytes, Batch::File& file) : bytes_(bytes), file_(file) {
    png_ = png_create_read_struct_2(
        PNG_LIBPNG_VER_STRING, this, on_error, [](png_structp, png_const_charp) {}, this, allocate,
        [](png_structp, png_voidp memory) { std::free(memory); });
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  Decoder(const Decoder&) = delete;
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }

  /// False with the reason in the file's message.
  bool decode(std::uint8_t* to) {
    if (info_ == nullptr) return refuse("libpng does not start");
    const auto begin = [this] {
      // Texts, profiles and palettes of no use here: not unpacked, so that none can be a bomb.
      static const png_byte unused[] = "iCCP\0iTXt\0tEXt\0zTXt\0sPLT\0eXIf\0hIST";
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, unused, sizeof unused / 5);
      png_set_read_fn(png_, this, on_read);
      png_read_info(png_, info_);
    };
    if (!attempt(begin)) return false;
    const Extent size{static_cast<int>(png_get_image_height(png_, info_)), static_cast<int>(png_get_image_width(png_, info_))};
    if (size != file_.size) return refuse("its header is not where it must be");
    const png_byte colour = png_get_color_type(png_, info_);
    const bool transparent = png_get_valid(png_, info_, PNG_INFO_tRNS) != 0;
    file_.converted = colour != PNG_COLOR_TYPE_RGB || png_get_bit_depth(png_, info_) != 8 || transparent;
    const auto transform = [&] {
      png_set_scale_16(png_);
      png_set_expand(png_);  // palettes, fewer than 8 bits, a transparent colour
      if ((colour & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png_);
      png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
    };
    if (!attempt(transform)) return false;
    const std::size_t height = static_cast<std::size_t>(size.h), width = static_cast<std::size_t>(size.w);
    const std::size_t channels = png_get_channels(png_, info_), row_bytes = png_get_rowbytes(png_, info_);
    if (row_bytes != channels * width || (channels != 3 && channels != 4)) return refuse("libpng gives rows of another width");

    std::vector<std::uint8_t> rgba(channels == 4 ? row_bytes * height : 0);
    std::vector<png_bytep> rows(height);
    for (std::size_t y = 0; y < height; ++y) rows[y] = (channels == 4 ? rgba.data() : to) + y * row_bytes;
    const auto read = [&] {
      png_read_image(png_, rows.data());
      png_read_end(png_, nullptr);
    };
    if (!attempt(read)) return false;
    if (channels == 4) put_over_white(rgba, to);
    return true;
  }

 private:
  static void put_over_white(const std::vector<std::uint8_t>& rgba, std::uint8_t* rgb) {
    for (std::size_t i = 0; i < rgba.size(); i += 4) {
      const unsigned alpha = rgba[i + 3];
      for (std::size_t c = 0; c < 3; ++c)
        *rgb++ = static_cast<std::uint8_t>((rgba[i + c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  }

  bool refuse(const char* message) {
    std::snprintf(file_.message, sizeof file_.message, "%s", message);
    return false;
  }

  template <class Call>
  bool attempt(const Call& call) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    call();
    return true;
  }

  static void on_error(png_structp png, png_const_charp message) {
    static_cast<Decoder*>(png_get_error_ptr(png))->refuse(message);
    png_longjmp(png, 1);
  }

  /// For libpng and its zlib, which say of a lack of memory what they say of a damaged file.
  static png_voidp allocate(png_structp png, png_alloc_size_t bytes) {
    void* const memory = std::malloc(bytes);
    if (memory == nullptr) static_cast<Decoder*>(png_get_mem_ptr(png))->file_.lacked_memory = 1;
    return memory;
  }

  static void on_read(png_structp png, png_bytep to, png_size_t count) {
    auto& self = *static_cast<Decoder*>(png_get_io_ptr(png));
    if (count > self.bytes_.size()) png_error(png, "the file ends too early");
    std::memcpy(to, self.bytes_.data(), count);
    self.bytes_ = self.bytes_.subspan(count);
  }

  Bytes bytes_;
  Batch::File& file_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

/// In the child.
void decode_batch(std::span<std::byte> memory) {
  Batch& batch = *reinterpret_cast<Batch*>(memory.data());
  for (std::size_t i = 0; i < batch.count; ++i) {
    std::atomic_ref(batch.begun).store(i + 1);
    Batch::File& file = batch.files[i];
    const auto pixels = memory.subspan(file.at + file.bytes);
    try {
      file.decoded = Decoder(memory.subspan(file.at, file.bytes), file).decode(reinterpret_cast<std::uint8_t*>(pixels.data()));
    } catch (const std::bad_alloc&) {
      file.lacked_memory = 1;
    }
  }
}

/// Of one file on its way: where it lies, or why it went no further.
struct Handed {
  std::size_t at = 0, bytes = 0;
  Extent size = 0;
  std::size_t place = 0;  // in the batch
  std::optional<Error> error = {};
};

Error not_decoded(const fs::path& file, const char (&message)[sizeof Batch::File::message]) {
  const std::string kind = kind_of_file(file);
  const bool other = !kind.empty() && kind != "a PNG image";
  return Error(ExitCode::data, "an image is no PNG file, or is damaged or cut short",
               {.where = file.string(),
                .found = other ? kind : std::string(message, ::strnlen(message, sizeof message)),
                .next = "get the file again, or remove it"},
               std::source_location::current());
}

/// Seconds of the processor's: unpacking is done at 10 MB/s and more.
int patience_for(std::size_t pixels) {
  constexpr std::size_t pixels_a_second = 10 << 20;
  return 2 + static_cast<int>(pixels / pixels_a_second);
}

}  // namespace

PngReader::PngReader() : worker_(std::in_place, least_memory, decode_batch) {}

void PngReader::read(std::span<const fs::path> files, Extent most, const Taken& taken, const Refused& refused) {
  for (std::size_t first = 0; first < files.size();) {
    if (!worker_) worker_.emplace(least_memory, decode_batch);
    // The child may write to what both see: what it was given is kept here.
    std::vector<Handed> all;
    std::vector<std::size_t> in_batch;  // of these
    std::size_t end = sizeof(Batch), pixels = 0;
    while (first + all.size() < files.size() && in_batch.size() < most_at_once) {
      const fs::path& file = files[first + all.size()];
      Handed one{.at = end, .place = in_batch.size()};
      try {
        const std::vector<std::byte> bytes = read_whole(file, ExitCode::data, longest_file);
        one.bytes = bytes.size();
        one.size = size_in_header(bytes, file, most);
        const std::size_t its_pixels = pixel_bytes(one.size), its_end = end + one.bytes + its_pixels;
        if (its_end > worker_->memory().size()) {
          if (!in_batch.empty()) break;
          worker_.emplace(its_end, decode_batch);
        }
        std::ranges::copy(bytes, worker_->memory().begin() + static_cast<std::ptrdiff_t>(one.at));
        in_batch.push_back(all.size());
        end = its_end, pixels += its_pixels;
      } catch (const Error& error) {
        if (error.code() != ExitCode::data) throw;
        one.error = error;
      }
      all.push_back(std::move(one));
    }

    const std::span<std::byte> memory = worker_->memory();
    Batch& batch = *reinterpret_cast<Batch*>(memory.data());
    batch.count = in_batch.size(), batch.begun = 0;
    for (const std::size_t i : in_batch)
      batch.files[all[i].place] = {.at = all[i].at, .bytes = all[i].bytes, .size = all[i].size};
    std::optional<Worker> crashed;
    if (!in_batch.empty() && !worker_->request(patience_for(pixels))) {
      const std::size_t begun = std::atomic_ref(batch.begun).load();
      const std::size_t last = in_batch[std::clamp<std::size_t>(begun, 1, in_batch.size()) - 1];
      all[last].error = worker_->error(ExitCode::data, files[first + last].string());
      all.resize(last + 1);  // those behind it are for another child
      crashed = std::exchange(worker_, std::nullopt);
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Handed& one = all[i];
      const Batch::File& answer = batch.files[one.place];
      std::optional<Error> error = one.error;
      if (!error && answer.decoded == 0 && answer.lacked_memory != 0)
        fail_memory("an image cannot be read: memory is short",
                    {.where = files[first + i].string(), .found = to_text(host_memory()), .next = "more memory"});
      if (!error && answer.decoded == 0) error = not_decoded(files[first + i], answer.message);
      if (!error) {
        const auto* const rgb = reinterpret_cast<const std::uint8_t*>(memory.data() + one.at + one.bytes);
        taken(first + i, {.size = one.size, .pixels = {rgb, pixel_bytes(one.size)}, .converted = answer.converted != 0});
      } else if (refused) {
        refused(first + i, *error);
      } else {
        throw *error;
      }
    }
    first += all.size();
  }
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
