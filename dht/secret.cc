#include "dht/secret.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "brick/base/id.h"
#include "brick/base/unique_fd.h"
#include "dht/volume_map.h"

namespace voldfs::dht {
namespace {

constexpr size_t kDigits = 2 * kSecretSize;

std::string what_happened(const std::string& doing, const std::string& path) {
  return "Cannot " + doing + ' ' + path + ": " + std::strerror(errno) + '.';
}

// Up to `size_max` bytes of a small file.
Explained<std::string> read_start(int fd, const std::string& path, size_t size_max) {
  std::string text(size_max, '\0');
  size_t size = 0;
  while (size < size_max) {
    const ssize_t n = ::read(fd, text.data() + size, size_max - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return explain(what_happened("read the secret", path));
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  text.resize(size);
  return text;
}

Explained<std::vector<uint8_t>> decode(std::string text, const std::string& path) {
  if (!text.empty() && text.back() == '\n') text.pop_back();
  std::vector<uint8_t> secret;
  if (text.size() == kDigits && text.find('-') == std::string::npos) {
    for (size_t half = 0; half < 2; ++half) {
      const auto sixteen = Id::parse(text.substr(half * kDigits / 2, kDigits / 2));
      if (sixteen) secret.insert(secret.end(), sixteen->bytes.begin(), sixteen->bytes.end());
    }
  }
  if (secret.size() != kSecretSize) {
    return explain("The secret " + path + " is not 64 hexadecimal digits. Copy it again from where the volume was made.");
  }
  return secret;
}

}  // namespace

Explained<std::vector<uint8_t>> read_secret(const std::string& path) {
  unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd) {
    if (errno != ENOENT) return explain(what_happened("open the secret", path));
    return explain("The volume's secret " + path + " is missing. It was made beside the map: copy it here, mode 0600.");
  }
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return explain(what_happened("look at the secret", path));
  if (!S_ISREG(st.st_mode)) return explain("The secret " + path + " is not a regular file.");
  if ((st.st_mode & 077) != 0) {
    return explain("The secret " + path + " can be used by others than its owner. If that was so for long, replace it; then "
                   "chmod 600 it.");
  }
  auto text = read_start(fd.get(), path, kDigits + 2);
  if (!text) return explain(text.error());
  return decode(std::move(*text), path);
}

Explained<void> make_secret(const std::string& path) {
  std::array<uint8_t, kSecretSize> secret;
  if (::getrandom(secret.data(), secret.size(), 0) != static_cast<ssize_t>(secret.size())) {
    return explain(std::string("The kernel gives no random bytes: ") + std::strerror(errno) + '.');
  }
  const std::string text = Id::from_bytes(secret.data()).hex() + Id::from_bytes(secret.data() + 16).hex() + '\n';
  unique_fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return explain(what_happened("make the secret", path));
  // One write of 65 bytes is whole or not at all, but for a full disk.
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(fd.get()) != 0) {
    std::string sentence = what_happened("write the secret", path);
    ::unlink(path.c_str());
    return explain(std::move(sentence));
  }
  return {};
}

}  // namespace voldfs::dht
