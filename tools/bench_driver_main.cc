#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <gflags/gflags.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "brick/base/unique_fd.h"

// Workloads on one directory, for tools/bench: each for a while or so many operations, its rate as a line of JSON.
// A workload finds the files that the ones before it have left.

DEFINE_string(dir, "", "Directory to work in");
DEFINE_uint32(threads, 1, "Threads, each with files of its own");
DEFINE_double(seconds, 1, "Longest time of a workload, seconds");
DEFINE_uint32(files, 20000, "Most files of a thread");
DEFINE_uint32(file_mib, 256, "Size of the files for data, MiB, over all threads");

namespace {

using Clock = std::chrono::steady_clock;
using voldfs::unique_fd;

constexpr size_t kSmall = 4096;
constexpr size_t kBlock = size_t{1} << 20;  // 1 MiB
constexpr unsigned kInFlight = 16;
constexpr uint64_t kListed = 10'000;  // files of the directory that is listed

// From any thread, with others still at work.
[[noreturn]] void give_up(const char* call, const std::string& path) {
  std::fprintf(stderr, "bench_driver: %s %s: %s\n", call, path.c_str(), std::strerror(errno));
  std::_Exit(1);
}

void check(bool good, const char* call, const std::string& path) {
  if (!good) give_up(call, path);
}

// What one thread works on. Its own, but for the data file of the workloads with several in flight.
struct Worker {
  explicit Worker(unsigned number)
      : dir(FLAGS_dir + "/t" + std::to_string(number)),
        data_path(FLAGS_dir + "/data" + std::to_string(number)),
        random(number),
        buffer(static_cast<char*>(std::aligned_alloc(kSmall, kBlock)), &std::free) {
    std::memset(buffer.get(), 'v', kBlock);
  }
  std::string file(char kind, uint64_t i) const { return dir + '/' + kind + std::to_string(i); }

  const std::string dir, data_path;
  uint64_t data_size = 0;  // of the data file, as written
  uint64_t created = 0, renamed = 0, small = 0, directories = 0;  // files f, of them now r; files s; directories d
  std::mt19937_64 random;
  unique_fd fd;            // of the data file, while a workload uses it
  std::unique_ptr<char, decltype(&std::free)> buffer;
};

void open_data(Worker& w, int flags) {
  w.fd.reset(::open(w.data_path.c_str(), flags | O_CLOEXEC, 0644));
}

uint64_t random_offset(Worker& w) { return w.random() % (w.data_size / kSmall) * kSmall; }

uint64_t data_blocks() { return std::max<uint64_t>(1, FLAGS_file_mib / FLAGS_threads); }

// One workload: `step` is done with 0, 1, ... until `count` or the time is over.
struct Workload {
  const char* name;
  const char* unit;
  double amount;     // of the unit, in a step
  bool cold;         // with the machine's caches dropped before
  unsigned threads;  // 0: as many as asked for
  std::function<uint64_t(const Worker&)> count;
  std::function<bool(Worker&)> open;  // before the clock runs; false: this file system cannot do it
  std::function<void(Worker&, uint64_t)> step;
};

uint64_t all_files(const Worker&) { return FLAGS_files; }
uint64_t created(const Worker& w) { return w.created; }
uint64_t small(const Worker& w) { return w.small; }
uint64_t without_end(const Worker&) { return UINT64_MAX; }
bool nothing(Worker&) { return true; }

void create(Worker& w, uint64_t i) {
  const std::string path = w.file('f', i);
  check(unique_fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)).valid(), "create", path);
  w.created = i + 1;
}

void create_small(Worker& w, uint64_t i) {
  const std::string path = w.file('s', i);
  const unique_fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  check(fd.valid() && ::write(fd.get(), w.buffer.get(), kSmall) == kSmall, "create and write", path);
  w.small = i + 1;
}

void read_small(Worker& w, uint64_t i) {
  const std::string path = w.file('s', i);
  const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check(fd.valid() && ::read(fd.get(), w.buffer.get(), kSmall) == kSmall, "open and read", path);
}

void stat_file(Worker& w, uint64_t i) {
  struct stat st;
  const std::string path = w.file('f', i);
  check(::stat(path.c_str(), &st) == 0, "stat", path);
}

void stat_missing(Worker& w, uint64_t i) {
  struct stat st;
  const std::string path = w.file('m', i);
  check(::stat(path.c_str(), &st) != 0 && errno == ENOENT, "stat of a missing", path);
}

void change_mode(Worker& w, uint64_t i) {
  const std::string path = w.file('f', i);
  check(::chmod(path.c_str(), 0600) == 0, "chmod", path);
}

void rename_file(Worker& w, uint64_t i) {
  const std::string path = w.file('f', i);
  check(::rename(path.c_str(), w.file('r', i).c_str()) == 0, "rename", path);
  w.renamed = i + 1;
}

void unlink_file(Worker& w, uint64_t i) {
  const std::string path = w.file(i < w.renamed ? 'r' : 'f', i);
  check(::unlink(path.c_str()) == 0, "unlink", path);
}

void make_directory(Worker& w, uint64_t i) {
  const std::string path = w.file('d', i);
  check(::mkdir(path.c_str(), 0755) == 0, "mkdir", path);
  w.directories = i + 1;
}

void remove_directory(Worker& w, uint64_t i) {
  const std::string path = w.file('d', i);
  check(::rmdir(path.c_str()) == 0, "rmdir", path);
}

std::string listed_dir() { return FLAGS_dir + "/listed"; }

// All of `ls -l` but the printing; one step lists everything.
void list(Worker&, uint64_t) {
  uint64_t seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(listed_dir())) {
    struct stat st;
    check(::lstat(entry.path().c_str(), &st) == 0, "lstat", entry.path());
    ++seen;
  }
  if (seen != kListed) {
    std::fprintf(stderr, "bench_driver: %s lists %lu files, not %lu\n", listed_dir().c_str(), seen, kListed);
    std::_Exit(1);
  }
}

void write_block(Worker& w, uint64_t) {
  check(::write(w.fd.get(), w.buffer.get(), kBlock) == static_cast<ssize_t>(kBlock), "write", w.data_path);
  w.data_size += kBlock;
}

void read_block(Worker& w, uint64_t) {
  check(::read(w.fd.get(), w.buffer.get(), kBlock) == static_cast<ssize_t>(kBlock), "read", w.data_path);
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

// Opens the data file; false if the file system has no O_DIRECT.
std::function<bool(Worker&)> opened(int flags) {
  return [flags](Worker& w) {
    open_data(w, flags);
    if (!w.fd && errno == EINVAL && (flags & O_DIRECT) != 0) return false;
    check(w.fd.valid(), "open", w.data_path);
    return true;
  };
}

uint64_t data_read(const Worker& w) { return w.data_size / kBlock; }

const std::vector<Workload>& workloads() {
  static const std::vector<Workload> all = {
      {"create empty", "ops/s", 1, false, 0, all_files, nothing, create},
      {"stat, first time", "ops/s", 1, true, 0, created, nothing, stat_file},
      {"stat again", "ops/s", 1, false, 0, created, nothing, stat_file},
      {"stat of a missing name", "ops/s", 1, false, 0, all_files, nothing, stat_missing},
      {"chmod", "ops/s", 1, false, 0, created, nothing, change_mode},
      {"rename", "ops/s", 1, false, 0, created, nothing, rename_file},
      {"unlink", "ops/s", 1, false, 0, created, nothing, unlink_file},
      {"mkdir", "ops/s", 1, false, 0, all_files, nothing, make_directory},
      {"rmdir", "ops/s", 1, false, 0, [](const Worker& w) { return w.directories; }, nothing, remove_directory},
      {"create 4 KiB", "ops/s", 1, false, 0, all_files, nothing, create_small},
      {"open, read 4 KiB, first time", "ops/s", 1, true, 0, small, nothing, read_small},
      {"open, read 4 KiB again", "ops/s", 1, false, 0, small, nothing, read_small},
      {"ls -l of 10,000, first time", "ops/s", kListed, true, 1, [](const Worker&) { return uint64_t{1}; }, nothing, list},
      {"ls -l of 10,000 again", "ops/s", kListed, false, 1, without_end, nothing, list},
      {"sequential write 1 MiB", "MiB/s", 1, false, 0, [](const Worker&) { return data_blocks(); },
       [](Worker& w) { return w.data_size = 0, opened(O_WRONLY | O_CREAT | O_TRUNC)(w); }, write_block},
      {"sequential read 1 MiB, first time", "MiB/s", 1, true, 0, data_read, opened(O_RDONLY), read_block},
      {"sequential read 1 MiB again", "MiB/s", 1, false, 0, data_read, opened(O_RDONLY), read_block},
      {"random read 4 KiB", "ops/s", 1, true, 0, without_end, opened(O_RDONLY), read_random},
      {"random read 4 KiB, O_DIRECT", "ops/s", 1, false, 0, without_end, opened(O_RDONLY | O_DIRECT), read_random},
      {"random read 4 KiB, O_DIRECT, 16 in flight", "ops/s", 1, false, kInFlight, without_end, opened(O_RDONLY | O_DIRECT), read_random},
      {"random write 4 KiB", "ops/s", 1, false, 0, without_end, opened(O_WRONLY), write_random},
      {"random write 4 KiB, O_DIRECT", "ops/s", 1, false, 0, without_end, opened(O_WRONLY | O_DIRECT), write_random},
      {"random write 4 KiB, O_DIRECT, 16 in flight", "ops/s", 1, false, kInFlight, without_end, opened(O_WRONLY | O_DIRECT), write_random},
      {"random write 4 KiB + fsync", "ops/s", 1, false, 0, without_end, opened(O_WRONLY), write_and_sync},
  };
  return all;
}

void drop_caches() {
  ::sync();
  const char* path = "/proc/sys/vm/drop_caches";
  const unique_fd fd(::open(path, O_WRONLY | O_CLOEXEC));
  check(fd.valid() && ::write(fd.get(), "3", 1) == 1, "drop caches through", path);
}

// Files of the workload `list`, made once a directory, by several threads: it is not what is measured.
void make_listed() {
  std::error_code error;
  if (!std::filesystem::create_directory(listed_dir(), error)) return;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kInFlight; ++t) {
    threads.emplace_back([t] {
      for (uint64_t i = t; i < kListed; i += kInFlight) {
        const std::string path = listed_dir() + "/file-" + std::to_string(i);
        check(unique_fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid(), "create", path);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

using Workers = std::vector<std::unique_ptr<Worker>>;

// What one thread did in a workload.
struct Done {
  Clock::time_point begin, end;
  uint64_t steps = 0;
};

Done work(const Workload& workload, Worker& worker, std::barrier<>& start) {
  const auto limit = std::chrono::duration<double>(FLAGS_seconds);
  const uint64_t count = workload.count(worker);
  start.arrive_and_wait();
  Done done;
  done.begin = done.end = Clock::now();
  while (done.steps < count && done.end - done.begin < limit) {
    workload.step(worker, done.steps++);
    done.end = Clock::now();
  }
  return done;
}

// Steps a second, from the first thread's start to the end of the last; below 0: cannot be done here.
double measure(const Workload& workload, const Workers& workers) {
  for (const auto& worker : workers) {
    if (!workload.open(*worker)) return -1;
  }
  std::barrier start(static_cast<std::ptrdiff_t>(workers.size()));
  std::vector<Done> done(workers.size());
  std::vector<std::thread> threads;
  for (size_t t = 0; t < workers.size(); ++t) {
    threads.emplace_back([&, t] { done[t] = work(workload, *workers[t], start); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& worker : workers) worker->fd.reset();
  Done all = done.front();
  for (size_t t = 1; t < done.size(); ++t) {
    all.begin = std::min(all.begin, done[t].begin), all.end = std::max(all.end, done[t].end);
    all.steps += done[t].steps;
  }
  return static_cast<double>(all.steps) / std::chrono::duration<double>(all.end - all.begin).count();
}

// The threads of a workload with its own number of them; those of one with more work on the first's data.
Workers make_workers(const Workload& workload, const Worker& first) {
  Workers workers;
  for (unsigned t = 0; t < workload.threads; ++t) {
    workers.push_back(std::make_unique<Worker>(0));
    workers.back()->data_size = first.data_size;
    workers.back()->random.seed(t + 1);
  }
  return workers;
}

void report(const Workload& workload, double rate) {
  nlohmann::json line = {{"workload", workload.name}, {"unit", workload.unit}};
  if (rate >= 0) line["rate"] = rate * workload.amount;
  std::puts(line.dump().c_str());
  std::fflush(stdout);
}

void run_all() {
  Workers own;
  for (unsigned t = 0; t < FLAGS_threads; ++t) {
    own.push_back(std::make_unique<Worker>(t));
    check(::mkdir(own.back()->dir.c_str(), 0755) == 0, "mkdir", own.back()->dir);
  }
  make_listed();
  for (const Workload& workload : workloads()) {
    const Workers special = make_workers(workload, *own.front());
    if (workload.cold) drop_caches();
    report(workload, measure(workload, special.empty() ? own : special));
  }
  for (const auto& worker : own) {  // but not the listed directory: the next run uses it again
    std::filesystem::remove_all(worker->dir);
    std::filesystem::remove(worker->data_path);
  }
}

}  // namespace

int main(int argc, char** argv) {
  gflags::SetUsageMessage("--dir=DIR: runs the workloads of tools/bench on one directory");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  if (FLAGS_dir.empty() || FLAGS_threads == 0 || FLAGS_file_mib == 0 || FLAGS_seconds <= 0) {
    std::fprintf(stderr, "bench_driver: --dir is needed, and no other flag may be 0\n");
    return 2;
  }
  run_all();
}
