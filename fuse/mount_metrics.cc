#include "fuse/mount_metrics.h"

namespace voldfs::fuse {

std::string MountMetrics::prometheus(const std::string& labels) const {
  constexpr auto relaxed = std::memory_order_relaxed;
  Exposition text("voldfs_mount_", labels);
  text.family("read_bytes_total", "counter", "Data read through the mount, that of passthrough aside.");
  text.sample("read_bytes_total", "", bytes_read.load(relaxed));
  text.family("written_bytes_total", "counter", "Data written through the mount, that of passthrough aside.");
  text.sample("written_bytes_total", "", bytes_written.load(relaxed));
  text.family("operation_errors_total", "counter", "Requests of the kernel that were answered by an error, a missing name included.");
  for (size_t i = 0; i < operations.size(); ++i) {
    if (operations[i].count.load(relaxed) != 0) text.sample("operation_errors_total", label("operation", kOperationNames[i]), operations[i].errors.load(relaxed));
  }
  text.family("operation_microseconds", "histogram", "How long requests of the kernel took.");
  for (size_t i = 0; i < operations.size(); ++i) {
    if (operations[i].count.load(relaxed) != 0) text.histogram("operation_microseconds", label("operation", kOperationNames[i]), operations[i]);
  }
  return text.take();
}

}  // namespace voldfs::fuse
