#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "tools/bench_driver/workload.h"

namespace voldfs::bench {
namespace {

void open_data(Worker& w, int flags) {
  w.fd.reset(::open(w.data_path.c_str(), flags | O_CLOEXEC, 0644));
  check(w.fd.valid(), "open", w.data_path);
}

auto opened(int flags) {
  return [flags](Worker& w) { open_data(w, flags); };
}

uint64_t random_offset(Worker& w) {
  return w.random() % (w.data_size / kSmall) * kSmall;
}

void write_block(Worker& w, uint64_t i) {
  const auto offset = static_cast<off_t>(i * kBlock);
  check(::pwrite(w.fd.get(), w.buffer.get(), kBlock, offset) == static_cast<ssize_t>(kBlock), "write",
        w.data_path);
}

void read_block(Worker& w, uint64_t i) {
  const auto offset = static_cast<off_t>(i * kBlock);
  check(::pread(w.fd.get(), w.buffer.get(), kBlock, offset) == static_cast<ssize_t>(kBlock), "read",
        w.data_path);
}

void read_random(Worker& w, uint64_t) {
  const auto offset = static_cast<off_t>(random_offset(w));
  check(::pread(w.fd.get(), w.buffer.get(), kSmall, offset) == kSmall, "pread", w.data_path);
}

void write_random(Worker& w, uint64_t) {
  const auto offset = static_cast<off_t>(random_offset(w));
  check(::pwrite(w.fd.get(), w.buffer.get(), kSmall, offset) == kSmall, "pwrite", w.data_path);
}

void write_and_sync(Worker& w, uint64_t i) {
  write_random(w, i);
  check(::fsync(w.fd.get()) == 0, "fsync", w.data_path);
}

uint64_t blocks(const Worker& w) {
  return w.data_size / kBlock;
}
uint64_t without_end(const Worker&) {
  return UINT64_MAX;
}

// What a write that ran out of time has left undone, and to the disk.
void write_rest(Worker& w) {
  open_data(w, O_RDWR);
  struct stat st;
  check(::fstat(w.fd.get(), &st) == 0, "fstat", w.data_path);
  for (auto i = static_cast<uint64_t>(st.st_size) / kBlock; i < blocks(w); ++i)
    write_block(w, i);
  check(::fsync(w.fd.get()) == 0, "fsync", w.data_path);
  w.fd.reset();
}

// By an earlier open: what the kernel then still has of it is the question.
void read_all(Worker& w) {
  open_data(w, O_RDONLY);
  for (uint64_t i = 0; i < blocks(w); ++i)
    read_block(w, i);
  w.fd.reset();
}

}  // namespace

std::vector<Workload> data_workloads(const Options& options) {
  std::vector<Workload> all = {
      {.name = "sequential write, 1 MiB",
       .unit = "MiB/s",
       .count = blocks,
       .open = opened(O_WRONLY | O_CREAT | O_EXCL),
       .step = write_block},
      {.name = "sequential read, cold, 1 MiB",
       .unit = "MiB/s",
       .caches = Caches::kAllCold,
       .count = blocks,
       .prepare = write_rest,
       .open = opened(O_RDONLY),
       .step = read_block},
      {.name = "random read 4 KiB, warm",
       .unit = "ops/s",
       .count = without_end,
       .prepare = read_all,
       .open = opened(O_RDONLY),
       .step = read_random},
      {.name = "random read 4 KiB, O_DIRECT",
       .unit = "ops/s",
       .count = without_end,
       .open = opened(O_RDONLY | O_DIRECT),
       .step = read_random},
      {.name = "random write 4 KiB, O_DIRECT",
       .unit = "ops/s",
       .count = without_end,
       .open = opened(O_WRONLY | O_DIRECT),
       .step = write_random},
      {.name = "random write 4 KiB + fsync",
       .unit = "ops/s",
       .count = without_end,
       .open = opened(O_WRONLY),
       .step = write_and_sync},
  };
  if (options.threads > 1) return all;
  all.push_back({.name = "random read 4 KiB, O_DIRECT, 16 in flight",
                 .unit = "ops/s",
                 .threads = kInFlight,
                 .count = without_end,
                 .open = opened(O_RDONLY | O_DIRECT),
                 .step = read_random});
  all.push_back({.name = "random write 4 KiB, O_DIRECT, 16 in flight",
                 .unit = "ops/s",
                 .threads = kInFlight,
                 .count = without_end,
                 .open = opened(O_WRONLY | O_DIRECT),
                 .step = write_random});
  return all;
}

}  // namespace voldfs::bench
