#include "data/digest.h"

#include "engine/check.h"
#include "engine/host_memory.h"
#include "engine/vendor_call.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include <fstream>
#include <memory>
#include <vector>

namespace microtome {

namespace {

/// Every libcrypto has these digests: one that fails lacks memory to begin with, or is restricted.
void begun(bool ok, const char* digest) {
  if (ok) return;
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  fail_memory(fmt::format("libcrypto gives no {}", digest),
              {.found = fmt::format("{}; {}", reason ? reason : "no reason given", to_text(host_memory())),
               .next = "more memory, or a libcrypto that is not restricted, as by FIPS mode"});
}

/// It looks at few of its allocations' results as it starts. Threads may come here together; later they need no guard.
void start() {
  static const bool started = [] {
    const VendorCall call("libcrypto");
    Digest digest;
    return EVP_Digest("", 0, digest.data(), nullptr, EVP_sha256(), nullptr) == 1;
  }();
  begun(started, "SHA-256");
}

}  // namespace

std::string md5(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  start();
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  begun(context && EVP_DigestInit_ex(context.get(), EVP_md5(), nullptr) == 1, "MD5");
  std::vector<char> piece(1 << 20);
  while (in) {
    in.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    EVP_DigestUpdate(context.get(), piece.data(), static_cast<std::size_t>(in.gcount()));
  }
  if (!in.eof()) fail(ExitCode::data, "a file cannot be read", {.where = file.string()});
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(context.get(), digest, &size);
  return hexadecimal({digest, size});
}

Digest sha256(std::span<const std::uint8_t> bytes) {
  Digest digest;
  unsigned size = 0;
  start();
  const int done = EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr);
  begun(done == 1 && size == digest.size(), "SHA-256");
  return digest;
}

std::string text_digest(std::string_view text) {
  return hexadecimal(sha256({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
}

std::string hexadecimal(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace microtome
