#include "data/gzip.h"

#include "engine/check.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

namespace microtome {

std::string gzip(std::string_view text) {
  z_stream stream{};
  constexpr int gzip_window = 15 + 16;  // 16: gzip's header instead of zlib's
  require(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, gzip_window, 8, Z_DEFAULT_STRATEGY) == Z_OK,
          "zlib cannot begin");
  std::string packed(deflateBound(&stream, text.size()), '\0');
  const auto* in = reinterpret_cast<const Bytef*>(text.data());
  auto* out = reinterpret_cast<Bytef*>(packed.data());
  stream.next_in = const_cast<Bytef*>(in);
  stream.next_out = out;
  // zlib counts what is left in 32 bits, so that it gets no more at a time.
  constexpr std::size_t most = std::numeric_limits<uInt>::max();
  int ended = Z_OK;
  while (ended == Z_OK) {
    const std::size_t left = static_cast<std::size_t>(in + text.size() - stream.next_in);
    stream.avail_in = static_cast<uInt>(std::min(left, most));
    stream.avail_out = static_cast<uInt>(std::min(static_cast<std::size_t>(out + packed.size() - stream.next_out), most));
    ended = deflate(&stream, left > most ? Z_NO_FLUSH : Z_FINISH);
  }
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  require(ended == Z_STREAM_END, "zlib did not take all");
  return packed;
}

}  // namespace microtome
