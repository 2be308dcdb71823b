#include "tests/lib/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "brick/base/unique_fd.h"

namespace voldfs::test {

int fails(int result) { return result < 0 ? errno : 0; }

int write_file(const std::filesystem::path& path, size_t bytes) {
  unique_fd fd(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  if (!fd) return errno;
  const std::string block(std::min<size_t>(bytes, 1u << 20), 'x');
  for (size_t done = 0; done < bytes;) {
    const ssize_t size = ::write(fd.get(), block.data(), std::min(block.size(), bytes - done));
    if (size < 0) return errno;
    done += static_cast<size_t>(size);
  }
  return 0;
}

}  // namespace voldfs::test
