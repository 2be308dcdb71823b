#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tests/mount/calls.h"

// What is in files: written, mapped, appended, copied, with holes, without a name, made durable.
namespace voldfs::test {
namespace {

void tmpfiles(const std::string& d, Transcript& out) {
  const int fd = out.ok("tmpfile", ::open(d.c_str(), O_TMPFILE | O_RDWR, 0600));
  out.call("write", ::write(fd, "tmp", 3));
  struct stat found{};
  ::fstat(fd, &found);
  out.note("links", std::to_string(found.st_nlink));
  out.note("list", listing(d));
  out.call("link", ::linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd)).c_str(), AT_FDCWD, (d + "/named").c_str(), AT_SYMLINK_FOLLOW));
  ::fstat(fd, &found);
  out.note("links after", std::to_string(found.st_nlink));
  ::close(fd);
  out.note("content", file_of(d + "/named"));
  const int excl = out.ok("tmpfile O_EXCL", ::open(d.c_str(), O_TMPFILE | O_EXCL | O_RDWR, 0600));
  out.call("link of O_EXCL", ::linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(excl)).c_str(), AT_FDCWD, (d + "/x").c_str(), AT_SYMLINK_FOLLOW));
  ::close(excl);
}

void open_unlinked(const std::string& d, Transcript& out) {
  const int fd = ::open((d + "/f").c_str(), O_CREAT | O_RDWR, 0600);
  out.call("write", ::write(fd, "alive", 5));
  out.call("unlink", ::unlink((d + "/f").c_str()));
  out.note("list", listing(d));
  out.call("write more", ::write(fd, "still", 5));
  char buffer[20];
  out.call("read", ::pread(fd, buffer, sizeof buffer, 0));
  struct stat found{};
  out.call("fstat", ::fstat(fd, &found));
  out.note("links", std::to_string(found.st_nlink) + " size " + std::to_string(found.st_size));
  out.call("ftruncate", ::ftruncate(fd, 2));
  out.call("fchmod", ::fchmod(fd, 0644));
  make_file(d + "/f", "new");
  out.call("read old", ::pread(fd, buffer, sizeof buffer, 0));
  ::close(fd);
  out.note("new", file_of(d + "/f"));
}

void holes(const std::string& d, Transcript& out) {
  const int fd = ::open((d + "/f").c_str(), O_CREAT | O_RDWR, 0600);
  const std::string block(65536, 'd');
  out.call("write", ::pwrite(fd, block.data(), block.size(), 0));
  out.call("write far", ::pwrite(fd, block.data(), block.size(), 1 << 20));
  ::fsync(fd);
  out.call("data at 0", ::lseek(fd, 0, SEEK_DATA));
  out.call("hole at 0", ::lseek(fd, 0, SEEK_HOLE));
  out.call("data in hole", ::lseek(fd, 100'000, SEEK_DATA));
  out.call("hole in data", ::lseek(fd, (1 << 20) + 1, SEEK_HOLE));
  out.call("data at end", ::lseek(fd, 2 << 20, SEEK_DATA));
  const auto content = [&] {
    std::string all(3 << 20, 0);
    const ssize_t size = ::pread(fd, all.data(), all.size(), 0);
    return std::to_string(size) + " bytes, " + std::to_string(std::count(all.begin(), all.end(), 'd')) + " d";
  };
  out.note("content", content());
  out.call("punch", ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192));
  out.note("after punch", content());
  out.call("zero", ::fallocate(fd, FALLOC_FL_ZERO_RANGE, 20'000, 5'000));
  out.note("after zero", content());
  out.call("zero keep", ::fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 2 << 20, 4096));
  out.note("after zero keep", content());
  out.call("allocate", ::fallocate(fd, 0, 0, 2 << 20));
  out.note("after allocate", content());
  out.call("keep size", ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 2 << 20, 1 << 20));
  out.note("after keep size", content());
  out.call("punch without keep", ::fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
  out.call("length 0", ::fallocate(fd, 0, 0, 0));
  out.call("negative", ::fallocate(fd, 0, -1, 5));
  out.call("large", ::ftruncate(fd, 8LL << 40));
  out.call("write at 8 TiB", ::pwrite(fd, "x", 1, (8LL << 40) - 1));
  out.stat("large", d + "/f");
  ::close(fd);
}

void mappings(const std::string& d, Transcript& out) {
  const int fd = ::open((d + "/f").c_str(), O_CREAT | O_RDWR, 0600);
  out.call("size", ::ftruncate(fd, 20'000));
  char* const map = static_cast<char*>(::mmap(nullptr, 20'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  out.note("mmap", std::to_string(map != MAP_FAILED));
  if (map == MAP_FAILED) return;
  std::memcpy(map + 5'000, "through the mapping", 19);
  char buffer[19];
  out.call("read", ::pread(fd, buffer, sizeof buffer, 5'000));
  out.note("read", std::string(buffer, sizeof buffer));
  out.call("write", ::pwrite(fd, "through write", 13, 9'000));
  out.note("mapped", std::string(map + 9'000, 13));
  out.call("punch", ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192));
  out.note("punched", std::to_string(map[5'000]));
  out.call("msync", ::msync(map, 20'000, MS_SYNC));
  ::munmap(map, 20'000);
  ::close(fd);
  out.note("after", file_of(d + "/f").substr(9'000, 13));
}

void appends(const std::string& d, Transcript& out) {
  const int a = ::open((d + "/f").c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
  const int b = ::open((d + "/f").c_str(), O_WRONLY | O_APPEND);
  for (int i = 0; i < 5; i++) {
    out.call("a", ::write(a, "aaa", 3));
    out.call("b", ::write(b, "bbb", 3));
  }
  out.call("position", ::lseek(a, 0, SEEK_CUR));
  const int late = ::open((d + "/f").c_str(), O_RDWR);
  out.call("setfl", ::fcntl(late, F_SETFL, O_APPEND));
  out.call("late", ::write(late, "late", 4));
  out.note("content", file_of(d + "/f"));
  ::close(a), ::close(b), ::close(late);
}

void copies(const std::string& d, Transcript& out) {
  make_file(d + "/from", std::string(50'000, 'c'));
  for (int i = 0; i < 6; i++) {
    const std::string name = d + "/to" + std::to_string(i);
    const int from = ::open((d + "/from").c_str(), O_RDONLY), to = ::open(name.c_str(), O_CREAT | O_RDWR, 0600);
    off_t at = 100, there = 10;
    out.call("copy", ::copy_file_range(from, &at, to, &there, 40'000, 0));
    out.note("content", std::to_string(file_of(name).size()) + file_of(name).substr(9, 3));
    out.call("beyond the end", ::copy_file_range(from, nullptr, to, nullptr, 0, 0));
    ::close(from), ::close(to);
  }
}

void direct_io(const std::string& d, Transcript& out) {
  const int fd = out.ok("open", ::open((d + "/f").c_str(), O_CREAT | O_RDWR | O_DIRECT, 0600));
  void* memory = nullptr;
  if (::posix_memalign(&memory, 4096, 1 << 20) != 0) return;
  std::memset(memory, 'D', 1 << 20);
  out.call("write", ::pwrite(fd, memory, 1 << 20, 0));
  std::memset(memory, 0, 1 << 20);
  out.call("read", ::pread(fd, memory, 1 << 20, 0));
  out.note("first", std::string(static_cast<char*>(memory), 2));
  ::free(memory);
  ::close(fd);
}

void sync_calls(const std::string& d, Transcript& out) {
  const int fd = ::open((d + "/f").c_str(), O_CREAT | O_RDWR | O_SYNC, 0600);
  out.call("write", ::write(fd, "x", 1));
  out.call("fsync", ::fsync(fd));
  out.call("fdatasync", ::fdatasync(fd));
  const int dir = ::open(d.c_str(), O_RDONLY | O_DIRECTORY);
  out.call("fsync directory", ::fsync(dir));
  out.call("syncfs", ::syncfs(dir));
  struct statvfs space{};
  out.call("statvfs", ::statvfs(d.c_str(), &space));
  out.note("name_max", std::to_string(space.f_namemax));
  ::close(fd), ::close(dir);
}

}  // namespace

const std::vector<ParityCase> kContentCases = {
    {"Tmpfiles", tmpfiles}, {"OpenUnlinked", open_unlinked}, {"Holes", holes}, {"Mappings", mappings}, {"Appends", appends},
    {"Copies", copies}, {"DirectIo", direct_io}, {"SyncCalls", sync_calls},
};

}  // namespace voldfs::test
