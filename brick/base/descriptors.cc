#include "brick/base/descriptors.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>

#include "brick/base/unique_fd.h"

namespace voldfs {

Result<void> make_room_for_descriptors() {
  constexpr rlim_t kTableSize = 32'768;  // 8 bytes each
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return fail_errno();
  limit.rlim_cur = limit.rlim_max;
  const Result<void> raised = ::setrlimit(RLIMIT_NOFILE, &limit) == 0 ? Result<void>() : fail_errno();
  unique_fd any(::open("/", O_PATH | O_CLOEXEC));
  unique_fd last(::fcntl(any.get(), F_DUPFD_CLOEXEC, static_cast<int>(std::min(kTableSize, limit.rlim_cur) - 1)));  // and is closed again
  return raised;
}

}  // namespace voldfs
