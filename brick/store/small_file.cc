#include "brick/store/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "brick/base/unique_fd.h"

namespace voldfs::store {

Result<std::string> read_small_file(int dir, const char* name) {
  unique_fd fd(openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return fail_errno();
  std::string content;
  char page[4096];
  while (true) {
    const ssize_t size = read(fd.get(), page, sizeof page);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail_errno();
    if (size == 0) return content;
    content.append(page, static_cast<size_t>(size));
    if (content.size() > kSmallFileMax) return fail(EFBIG);
  }
}

Result<void> write_small_file(int dir, const char* name, std::string_view content, mode_t mode) {
  const std::string fresh = std::string(name) + ".new";
  unique_fd fd(openat(dir, fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd) return fail_errno();
  if (fchmod(fd.get(), mode) != 0) return fail_errno();
  while (!content.empty()) {
    const ssize_t size = write(fd.get(), content.data(), content.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail_errno();
    content.remove_prefix(static_cast<size_t>(size));
  }
  if (fsync(fd.get()) != 0) return fail_errno();
  if (renameat(dir, fresh.c_str(), dir, name) != 0) return fail_errno();
  if (fsync(dir) != 0) return fail_errno();
  return {};
}

std::string boot_id() {
  auto text = read_small_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id");
  if (!text) return {};
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return *text;
}

}  // namespace voldfs::store
