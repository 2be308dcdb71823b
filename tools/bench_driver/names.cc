#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <thread>

#include "tools/bench_driver/workload.h"

namespace voldfs::bench {
namespace {

void create(Worker& w, uint64_t i) {
  const std::string path = w.file('f', i);
  check(unique_fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)).valid(), "create",
        path);
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
  w.missing = std::max(w.missing, i + 1);
}

void change_mode(Worker& w, uint64_t i) {
  const std::string path = w.file('s', i);
  check(::chmod(path.c_str(), 0600) == 0, "chmod", path);
}

void rename_file(Worker& w, uint64_t i) {
  const std::string path = w.file('f', i);
  check(::rename(path.c_str(), w.file('r', i).c_str()) == 0, "rename", path);
  w.renamed = i + 1;
}

// A file whose new name belongs to another brick stays where it is and leaves a link there: both bricks have
// the name.
bool crossed_bricks(const Worker& w, uint64_t i) {
  unsigned have = 0;
  for (const std::string& brick : w.options.bricks) {
    have += ::access((brick + '/' + w.name + "/r" + std::to_string(i)).c_str(), F_OK) == 0;
  }
  if (have == 0) give_up("no brick has the renamed", w.file('r', i));
  return have > 1;
}

void unlink_file(Worker& w, uint64_t i) {
  const std::string path = w.file('s', i);
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

std::string listed_dir(const Options& options) {
  return options.dir + "/listed";
}

// Made by several threads: it is not what is measured.
void make_listed(Worker& w) {
  const std::string dir = listed_dir(w.options);
  check(::mkdir(dir.c_str(), 0755) == 0, "mkdir", dir);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kInFlight; ++t) {
    threads.emplace_back([t, &dir] {
      for (uint64_t i = t; i < kListed; i += kInFlight) {
        const std::string path = dir + "/file-" + std::to_string(i);
        check(unique_fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid(), "create", path);
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
}

// All of `ls -l` but the printing; one step lists everything.
void list(Worker& w, uint64_t) {
  const std::string dir = listed_dir(w.options);
  uint64_t seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    struct stat st;
    check(::lstat(entry.path().c_str(), &st) == 0, "lstat", entry.path());
    ++seen;
  }
  if (seen != kListed) {
    std::fprintf(stderr, "bench_driver: %s lists %lu files, not %lu\n", dir.c_str(), seen, kListed);
    std::_Exit(1);
  }
}

uint64_t as_many_as_asked(const Worker& w) {
  return w.options.files;
}
uint64_t created(const Worker& w) {
  return w.created;
}
uint64_t small(const Worker& w) {
  return w.small;
}
uint64_t once(const Worker&) {
  return 1;
}

}  // namespace

std::vector<Workload> names_workloads(const Options& options) {
  const bool alone = options.threads == 1;
  std::vector<Workload> all = {
      {.name = "create empty", .unit = "ops/s", .count = as_many_as_asked, .step = create},
      {.name = "create, write 4 KiB, close",
       .unit = "ops/s",
       .count = as_many_as_asked,
       .step = create_small},
      {.name = "ls -l of 10,000, first time",
       .unit = "files/s",
       .amount = kListed,
       .caches = Caches::kClientCold,
       .count = once,
       .prepare = make_listed,
       .step = list},
      // The listing has made these cold and touched none of them.
      {.name = "stat, first time",
       .unit = "ops/s",
       .caches = alone ? Caches::kKept : Caches::kClientCold,
       .count = created,
       .step = stat_file},
      {.name = "stat of a missing name, first time",
       .unit = "ops/s",
       .count = as_many_as_asked,
       .step = stat_missing},
      {.name = "open, read 4 KiB, close, first time", .unit = "ops/s", .count = small, .step = read_small},
      {.name = "stat, again", .unit = "ops/s", .caches = Caches::kAged, .count = created, .step = stat_file},
      {.name = "stat of a missing name, again",
       .unit = "ops/s",
       .count = [](const Worker& w) { return w.missing; },
       .step = stat_missing},
      {.name = "open, read 4 KiB, close, again", .unit = "ops/s", .count = small, .step = read_small},
      {.name = "ls -l of 10,000, again", .unit = "files/s", .amount = kListed, .count = once, .step = list},
      {.name = "chmod", .unit = "ops/s", .count = small, .step = change_mode},
      {.name = "rename", .unit = "ops/s", .count = created, .step = rename_file},
      {.name = "unlink", .unit = "ops/s", .count = small, .step = unlink_file},
      {.name = "mkdir", .unit = "ops/s", .count = as_many_as_asked, .step = make_directory},
      {.name = "rmdir",
       .unit = "ops/s",
       .count = [](const Worker& w) { return w.directories; },
       .step = remove_directory},
  };
  if (!alone) std::erase_if(all, [](const Workload& workload) { return workload.amount == kListed; });
  for (Workload& workload : all) {
    if (workload.name != std::string_view("rename") || options.bricks.empty()) continue;
    workload.parts = {
        {"rename, same brick", [](const Worker& w, uint64_t i) { return !crossed_bricks(w, i); }},
        {"rename, cross brick", crossed_bricks}};
  }
  return all;
}

}  // namespace voldfs::bench
