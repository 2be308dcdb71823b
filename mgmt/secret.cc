#include "mgmt/secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <cstdlib>

#include "mgmt/files.h"

namespace voldfs::mgmt {

namespace {

unsigned char* bytes(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

}  // namespace

std::string random_bytes(size_t size) {
  std::string result(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t n = ::getrandom(result.data() + done, size - done, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) std::abort();  // no secrets without a source of them
    done += static_cast<size_t>(n);
  }
  return result;
}

std::string to_hex(std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string result;
  for (const char c : text) {
    result += digits[static_cast<unsigned char>(c) >> 4];
    result += digits[static_cast<unsigned char>(c) & 15];
  }
  return result;
}

Explained<std::string> from_hex(std::string_view digits) {
  const auto value = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string result;
  if (digits.size() % 2 != 0) return explain("These are no hexadecimal digits.");
  for (size_t i = 0; i < digits.size(); i += 2) {
    const int high = value(digits[i]), low = value(digits[i + 1]);
    if (high < 0 || low < 0) return explain("These are no hexadecimal digits.");
    result += static_cast<char>(high * 16 + low);
  }
  return result;
}

std::string mac(std::string_view key, std::initializer_list<std::string_view> parts) {
  std::string message;
  for (const std::string_view part : parts) {
    for (int shift = 0; shift < 64; shift += 8) message += static_cast<char>(uint64_t{part.size()} >> shift);
    message += part;
  }
  std::string result(32, '\0');
  unsigned size = 0;
  if (!::HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes(std::string_view(message)), message.size(),
              bytes(result), &size))
    std::abort();
  return result;
}

bool same(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Explained<std::string> load_or_make_secret(const std::string& path) {
  auto text = read_file(path);
  if (!text && text.error().code == ENOENT) {
    const std::string made = to_hex(random_bytes(kClusterSecretSize)) + "\n";
    if (auto written = write_file(path, made, 0600); !written) return explain(written.error());
    text = made;
  }
  if (!text) return explain("Could not read " + path + ": " + std::strerror(text.error().code) + ".");
  struct stat st{};
  if (::stat(path.c_str(), &st) != 0 || (st.st_mode & 077) != 0)
    return explain(path + " can be read by others than root: chmod 600 " + path + ", and use a new secret if others have.");
  while (!text->empty() && (text->back() == '\n' || text->back() == ' ')) text->pop_back();
  auto secret = from_hex(*text);
  if (!secret || secret->size() != kClusterSecretSize)
    return explain(path + " does not hold 64 hexadecimal digits. Copy it from another node of the cluster.");
  return secret;
}

std::string api_token(std::string_view secret) { return to_hex(mac(secret, {"voldfs api token"})); }

}  // namespace voldfs::mgmt
