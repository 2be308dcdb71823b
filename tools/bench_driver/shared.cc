#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>

#include "tools/bench_driver/workload.h"

// What is done through one mount while another works on the same names, files and locks.
namespace voldfs::bench {
namespace {

constexpr uint64_t kFiles = 100;  // that both work on
constexpr size_t kLine = 100;     // bytes

std::string shared_file(const std::string& dir, uint64_t i) {
  return dir + "/shared" + std::to_string(i % kFiles);
}

void make_file(const std::string& path) {
  check(unique_fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid(), "create", path);
}

void make_files(Worker& w) {
  for (uint64_t i = 0; i < kFiles; ++i)
    make_file(shared_file(w.dir, i));
}

void list(const std::string& dir, uint64_t) {
  uint64_t seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir))
    seen += !entry.path().empty();
  if (seen < kFiles) give_up("list", dir);
}

void change_mode(const std::string& dir, uint64_t i) {
  const std::string path = shared_file(dir, i);
  check(::chmod(path.c_str(), i / kFiles % 2 ? 0600 : 0644) == 0, "chmod", path);
}

void open_and_read(const std::string& dir, uint64_t i) {
  const std::string path = shared_file(dir, i);
  char bytes[kLine];
  const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check(fd.valid() && ::read(fd.get(), bytes, sizeof bytes) >= 0, "open and read", path);
}

void append(int fd, const std::string& path) {
  const std::string line(kLine, 'v');
  check(::write(fd, line.data(), line.size()) == static_cast<ssize_t>(kLine), "append", path);
}

// A number in a file, one more.
void add(int fd, const std::string& path) {
  struct flock lock{};
  lock.l_type = F_WRLCK, lock.l_whence = SEEK_SET;
  check(::fcntl(fd, F_SETLKW, &lock) == 0, "lock", path);
  char text[24];
  const ssize_t size = ::pread(fd, text, sizeof text, 0);
  check(size >= 0, "read", path);
  uint64_t number = 0;
  std::from_chars(text, text + size, number);
  const std::string next = std::to_string(number + 1);
  check(::pwrite(fd, next.data(), next.size(), 0) == static_cast<ssize_t>(next.size()), "write", path);
  lock.l_type = F_UNLCK;
  check(::fcntl(fd, F_SETLK, &lock) == 0, "unlock", path);
}

uint64_t as_many_as_asked(const Worker& w) {
  return w.options.files;
}
uint64_t without_end(const Worker&) {
  return UINT64_MAX;
}

// A row in which both do the same to one file that each has open. The other opens it in its first step.
Workload on_one_file(const char* name, int flags, void (*act)(int fd, const std::string& path)) {
  const std::string file = std::string("/") + (flags & O_APPEND ? "appended" : "number");
  return {.name = name,
          .unit = "ops/s",
          .threads = 1,
          .count = without_end,
          .prepare = [file](Worker& w) { make_file(w.dir + file); },
          .open = [file, flags](Worker& w) { w.fd.reset(::open((w.dir + file).c_str(), flags | O_CLOEXEC)); },
          .step = [file, act](Worker& w, uint64_t) { act(w.fd.get(), w.dir + file); },
          .beside = [file, flags, act, fd = std::make_shared<unique_fd>()](const std::string& dir, uint64_t i) {
            if (i == 0) fd->reset(::open((dir + file).c_str(), flags | O_CLOEXEC));
            act(fd->get(), dir + file);
          }};
}

}  // namespace

std::vector<Workload> shared_workloads() {
  return {{.name = "create beside another mount's ls",
           .unit = "ops/s",
           .threads = 1,
           .count = as_many_as_asked,
           .prepare = make_files,
           .step = [](Worker& w, uint64_t i) { make_file(w.file('l', i)); },
           .beside = list},
          {.name = "create beside another mount's create",
           .unit = "ops/s",
           .threads = 1,
           .count = as_many_as_asked,
           .step = [](Worker& w, uint64_t i) { make_file(w.file('c', i)); },
           .beside = [](const std::string& dir, uint64_t i) { make_file(dir + "/o" + std::to_string(i)); }},
          {.name = "open, read beside another mount's chmod",
           .unit = "ops/s",
           .threads = 1,
           .count = without_end,
           .step = [](Worker& w, uint64_t i) { open_and_read(w.dir, i); },
           .beside = change_mode},
          {.name = "chmod beside another mount's open, read",
           .unit = "ops/s",
           .threads = 1,
           .count = without_end,
           .step = [](Worker& w, uint64_t i) { change_mode(w.dir, i); },
           .beside = open_and_read},
          on_one_file("append beside another mount's append", O_WRONLY | O_APPEND, append),
          on_one_file("lock, add, unlock beside another mount's", O_RDWR, add)};
}

}  // namespace voldfs::bench
