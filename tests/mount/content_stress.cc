#include "tests/mount/content_stress.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace voldfs::test {
namespace {

constexpr size_t kLogMax = 40;
constexpr size_t kRangeMax = 96 << 10;
constexpr size_t kAlignment = 4096;

}  // namespace

#define NOTE(...)                                                                                            \
  do {                                                                                                       \
    char line_[200];                                                                                         \
    std::snprintf(line_, sizeof line_, __VA_ARGS__);                                                         \
    log_.push_back(std::to_string(operations_) + " through " + std::to_string(at_ - places_.data()) + ": " + \
                   line_);                                                                                   \
    if (log_.size() > kLogMax) log_.pop_front();                                                             \
  } while (false)

ContentStress::ContentStress(const Options& options) : options_(options), random_(options.seed) {
  for (const std::string& path : options.paths)
    places_.push_back({path});
  aligned_ = static_cast<char*>(std::aligned_alloc(kAlignment, options.size_max + 2 * kAlignment));
}

ContentStress::~ContentStress() {
  for (Place& place : places_)
    close_all(place);
  std::free(aligned_);
}

std::string ContentStress::run() {
  open_all();
  const auto end = std::chrono::steady_clock::now() + options_.time;
  while (failure_.empty() && operations_ < options_.operations_max &&
         std::chrono::steady_clock::now() < end) {
    at_ = &places_[random_() % places_.size()];
    // The kernel learns of another client's change when it is asked for attributes or data, not when it is to
    // copy or to map.
    if (places_.size() > 1) check_size();
    if (!failure_.empty()) break;
    step();
    operations_++;
    if (failure_.empty()) check_size();
    if (failure_.empty() && operations_ % 50 == 0) check_all();
  }
  if (failure_.empty()) check_all();
  if (failure_.empty()) return {};
  std::string out = failure_ + " (seed " + std::to_string(options_.seed) + ", operation " +
                    std::to_string(operations_) + ")\n";
  for (const std::string& line : log_)
    out += "  " + line + "\n";
  return out;
}

void ContentStress::open_all() {
  for (Place& place : places_) {
    if (place.fd >= 0) continue;
    place.fd = ::open(place.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (options_.direct) place.direct = ::open(place.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    place.appending = ::open(place.path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (place.fd < 0 || place.appending < 0 || (options_.direct && place.direct < 0))
      return failed_call("open");
  }
}

void ContentStress::close_all(Place& place) {
  for (int* fd : {&place.fd, &place.direct, &place.appending}) {
    if (*fd >= 0 && ::close(*fd) < 0) failed_call("close");
    *fd = -1;
  }
}

void ContentStress::step() {
  switch (random_() % 16) {
    case 0:
    case 1:
      return read_one();
    case 2:
    case 3:
    case 4:
      return write_one();
    case 5:
      return options_.mappings ? map_read() : read_one();
    case 6:
    case 7:
      return options_.mappings ? map_write() : write_one();
    case 8:
      return truncate_one();
    case 9:
    case 10:
      return allocate();
    case 11:
      return copy();
    case 12:
      return append();
    case 13:
      return options_.direct ? direct_io() : read_one();
    case 14:
      return reopen();
    default:
      return random_() % 2 ? read_through_vectors() : check_holes();
  }
}

ContentStress::Range ContentStress::range(bool inside) {
  const size_t limit = inside ? expected_.size() : options_.size_max;
  if (limit == 0) return {0, 0};
  size_t offset = random_() % limit, size = 1 + random_() % std::min(kRangeMax, limit - offset);
  // Page borders are where mistakes live.
  if (random_() % 4 == 0) offset &= ~(kAlignment - 1);
  if (random_() % 4 == 0) size = std::max<size_t>(size & ~(kAlignment - 1), 1);
  if (random_() % 4 == 0) size = std::min<size_t>(size, 1 + random_() % 100);
  return {offset, std::min(size, limit - offset)};
}

std::vector<char> ContentStress::pattern(size_t size) {
  std::vector<char> out(size);
  const uint64_t stamp = operations_ + 1;
  for (size_t i = 0; i < size; i++)
    out[i] = static_cast<char>(1 + (stamp * 7 + i % 251) % 255);  // never 0: a hole shows
  return out;
}

void ContentStress::put(size_t offset, const std::vector<char>& data) {
  if (expected_.size() < offset + data.size()) expected_.resize(offset + data.size());
  std::copy(data.begin(), data.end(), expected_.begin() + static_cast<ptrdiff_t>(offset));
}

void ContentStress::fail_with(const std::string& what) {
  if (failure_.empty()) failure_ = what;
}
void ContentStress::failed_call(const std::string& what) {
  fail_with(what + " of " + (at_ ? at_->path : places_[0].path) + ": " + std::strerror(errno));
}

void ContentStress::expect(size_t offset, size_t size, const char* got, const std::string& by) {
  for (size_t i = 0; i < size; i++) {
    if (got[i] == expected_[offset + i]) continue;
    size_t wrong = 0;
    for (size_t j = i; j < size; j++)
      wrong += got[j] != expected_[offset + j];
    char text[200];
    std::snprintf(text, sizeof text,
                  ": at %zu there is %d instead of %d; %zu of %zu bytes from %zu are wrong; through ",
                  offset + i, static_cast<unsigned char>(got[i]),
                  static_cast<unsigned char>(expected_[offset + i]), wrong, size, offset);
    return fail_with(by + text + at_->path);
  }
}

void ContentStress::check_size() {
  struct stat found {};
  if (::fstat(at_->fd, &found) < 0) return failed_call("fstat");
  if (static_cast<size_t>(found.st_size) != expected_.size())
    fail_with("size " + std::to_string(found.st_size) + " instead of " + std::to_string(expected_.size()) +
              " through " + at_->path);
}

void ContentStress::check_all() {
  std::vector<char> all(options_.size_max + 1);
  for (Place& place : places_) {
    at_ = &place;
    const ssize_t size = ::pread(place.fd, all.data(), all.size(), 0);
    if (size < 0) return failed_call("read of all");
    if (static_cast<size_t>(size) != expected_.size())
      return fail_with("read of all: " + std::to_string(size) + " bytes instead of " +
                       std::to_string(expected_.size()) + " through " + place.path);
    expect(0, expected_.size(), all.data(), "read of all");
  }
}

// What is said to be a hole must be zeros.
void ContentStress::check_holes() {
  NOTE("seek through holes");
  off_t at = 0;
  while (failure_.empty() && static_cast<size_t>(at) < expected_.size()) {
    const off_t hole = ::lseek(at_->fd, at, SEEK_HOLE);
    if (hole < at) return failed_call("SEEK_HOLE");
    if (static_cast<size_t>(hole) >= expected_.size()) return;
    off_t data = ::lseek(at_->fd, hole, SEEK_DATA);
    if (data < 0 && errno == ENXIO) data = static_cast<off_t>(expected_.size());
    if (data <= hole) return failed_call("SEEK_DATA");
    for (off_t i = hole; i < data; i++)
      if (expected_[static_cast<size_t>(i)] != 0)
        return fail_with("a hole at " + std::to_string(i) + " where data is");
    at = data;
  }
}

void ContentStress::read_one() {
  const Range r = range(true);
  NOTE("read %zu + %zu", r.offset, r.size);
  std::vector<char> got(r.size);
  if (::pread(at_->fd, got.data(), r.size, static_cast<off_t>(r.offset)) != static_cast<ssize_t>(r.size))
    return failed_call("read");
  expect(r.offset, r.size, got.data(), "read");
}

void ContentStress::read_through_vectors() {
  const Range r = range(true);
  NOTE("readv %zu + %zu", r.offset, r.size);
  std::vector<char> got(r.size);
  const size_t middle = r.size / 3;
  const iovec parts[2] = {{got.data(), middle}, {got.data() + middle, r.size - middle}};
  if (::preadv(at_->fd, parts, 2, static_cast<off_t>(r.offset)) != static_cast<ssize_t>(r.size))
    return failed_call("preadv");
  expect(r.offset, r.size, got.data(), "readv");
}

void ContentStress::write_one() {
  const Range r = range(false);
  NOTE("write %zu + %zu", r.offset, r.size);
  const auto data = pattern(r.size);
  if (::pwrite(at_->fd, data.data(), r.size, static_cast<off_t>(r.offset)) != static_cast<ssize_t>(r.size))
    return failed_call("write");
  put(r.offset, data);
}

void ContentStress::map_read() {
  const Range r = range(true);
  if (r.size == 0) return;
  NOTE("mapped read %zu + %zu", r.offset, r.size);
  const size_t start = r.offset & ~(kAlignment - 1), whole = r.offset + r.size - start;
  char* const map =
      static_cast<char*>(::mmap(nullptr, whole, PROT_READ, random_() % 2 ? MAP_SHARED : MAP_PRIVATE, at_->fd,
                                static_cast<off_t>(start)));
  if (map == MAP_FAILED) return failed_call("mmap");
  expect(r.offset, r.size, map + (r.offset - start), "mapped read");
  ::munmap(map, whole);
}

void ContentStress::map_write() {
  const Range r = range(false);
  if (r.size == 0) return;
  NOTE("mapped write %zu + %zu", r.offset, r.size);
  if (expected_.size() < r.offset + r.size) {
    if (::ftruncate(at_->fd, static_cast<off_t>(r.offset + r.size)) < 0) return failed_call("ftruncate");
    expected_.resize(r.offset + r.size);
  }
  const size_t start = r.offset & ~(kAlignment - 1), whole = r.offset + r.size - start;
  char* const map = static_cast<char*>(
      ::mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_SHARED, at_->fd, static_cast<off_t>(start)));
  if (map == MAP_FAILED) return failed_call("mmap");
  const auto data = pattern(r.size);
  std::copy(data.begin(), data.end(), map + (r.offset - start));
  // Through another mount it is seen once it is written back.
  if ((places_.size() > 1 || random_() % 2) && ::msync(map, whole, MS_SYNC) < 0) failed_call("msync");
  ::munmap(map, whole);
  put(r.offset, data);
}

void ContentStress::truncate_one() {
  const size_t size = random_() % 4 == 0 ? random_() % 100 : random_() % (options_.size_max + 1);
  NOTE("truncate to %zu", size);
  if (random_() % 2 ? ::ftruncate(at_->fd, static_cast<off_t>(size))
                    : ::truncate(at_->path.c_str(), static_cast<off_t>(size)))
    return failed_call("truncate");
  expected_.resize(size);
}

void ContentStress::allocate() {
  struct Mode {
    int flags;
    const char* name;
  };
  constexpr Mode kModes[] = {{0, "allocate"},
                             {FALLOC_FL_KEEP_SIZE, "allocate keep"},
                             {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch"},
                             {FALLOC_FL_ZERO_RANGE, "zero"},
                             {FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "zero keep"},
                             {FALLOC_FL_COLLAPSE_RANGE, "collapse"},
                             {FALLOC_FL_INSERT_RANGE, "insert"}};
  const Mode mode = kModes[random_() % std::size(kModes)];
  Range r = range(mode.flags & FALLOC_FL_COLLAPSE_RANGE || mode.flags & FALLOC_FL_INSERT_RANGE);
  if (mode.flags & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) {
    r.offset &= ~(kAlignment - 1), r.size = std::max(r.size & ~(kAlignment - 1), kAlignment);
    if (r.offset + r.size >= expected_.size() ||
        (mode.flags & FALLOC_FL_INSERT_RANGE && expected_.size() + r.size > options_.size_max))
      return;
  }
  if (r.size == 0) return;
  NOTE("%s %zu + %zu", mode.name, r.offset, r.size);
  if (::fallocate(at_->fd, mode.flags, static_cast<off_t>(r.offset), static_cast<off_t>(r.size)) < 0) {
    if (errno == EOPNOTSUPP && mode.flags & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) return;
    return failed_call(mode.name);
  }
  const auto from = expected_.begin() + static_cast<ptrdiff_t>(std::min(r.offset, expected_.size()));
  const auto to = expected_.begin() + static_cast<ptrdiff_t>(std::min(r.offset + r.size, expected_.size()));
  if (mode.flags & FALLOC_FL_COLLAPSE_RANGE) return void(expected_.erase(from, to));
  if (mode.flags & FALLOC_FL_INSERT_RANGE) return void(expected_.insert(from, r.size, 0));
  if (mode.flags & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) std::fill(from, to, 0);
  if (!(mode.flags & FALLOC_FL_KEEP_SIZE)) expected_.resize(std::max(expected_.size(), r.offset + r.size));
}

void ContentStress::copy() {
  Range r = range(true);
  const size_t to = random_() % options_.size_max;
  r.size = std::min(r.size, options_.size_max - to);
  if (r.size == 0 || (to < r.offset + r.size && r.offset < to + r.size)) return;
  NOTE("copy %zu + %zu to %zu", r.offset, r.size, to);
  if (random_() % 8 == 0) {
    const file_clone_range clone{at_->fd, r.offset & ~(kAlignment - 1), kAlignment, to & ~(kAlignment - 1)};
    if (::ioctl(at_->fd, FICLONERANGE, &clone) == 0) fail_with("FICLONERANGE works: say here what it does");
  }
  size_t done = 0;
  while (done < r.size) {
    off_t from_at = static_cast<off_t>(r.offset + done), to_at = static_cast<off_t>(to + done);
    const ssize_t copied = ::copy_file_range(at_->fd, &from_at, at_->fd, &to_at, r.size - done, 0);
    if (copied < 0) return failed_call("copy_file_range");
    if (copied == 0) return fail_with("copy_file_range sees no data at " + std::to_string(from_at));
    done += static_cast<size_t>(copied);
  }
  put(to, std::vector<char>(expected_.begin() + static_cast<ptrdiff_t>(r.offset),
                            expected_.begin() + static_cast<ptrdiff_t>(r.offset + r.size)));
}

void ContentStress::append() {
  const size_t size = std::min<size_t>(1 + random_() % 9'000, options_.size_max - expected_.size());
  if (size == 0) return;
  NOTE("append %zu to %zu", size, expected_.size());
  const auto data = pattern(size);
  if (::write(at_->appending, data.data(), size) != static_cast<ssize_t>(size)) return failed_call("append");
  put(expected_.size(), data);
}

void ContentStress::direct_io() {
  Range r = range(true);
  r.offset &= ~(kAlignment - 1);
  if (random_() % 2) {
    const size_t size = std::min((r.size + kAlignment) & ~(kAlignment - 1),
                                 (options_.size_max - r.offset) & ~(kAlignment - 1));
    if (size == 0) return;
    NOTE("direct write %zu + %zu", r.offset, size);
    const auto data = pattern(size);
    std::copy(data.begin(), data.end(), aligned_);
    if (::pwrite(at_->direct, aligned_, size, static_cast<off_t>(r.offset)) != static_cast<ssize_t>(size))
      return failed_call("direct write");
    return put(r.offset, data);
  }
  const size_t size = (r.size + kAlignment - 1) & ~(kAlignment - 1),
               there = std::min(size, expected_.size() - std::min(r.offset, expected_.size()));
  if (size == 0) return;
  NOTE("direct read %zu + %zu", r.offset, size);
  const ssize_t got = ::pread(at_->direct, aligned_, size, static_cast<off_t>(r.offset));
  if (got < 0) return failed_call("direct read");
  if (static_cast<size_t>(got) != there)
    return fail_with("direct read of " + std::to_string(got) + " instead of " + std::to_string(there));
  expect(r.offset, there, aligned_, "direct read");
}

void ContentStress::reopen() {
  switch (random_() % 4) {
    case 0:
      NOTE("close and open");
      close_all(*at_);
      return open_all();
    case 1:
      NOTE("fsync");
      if (::fsync(at_->fd) < 0) failed_call("fsync");
      return;
    case 2:
      NOTE("drop pages");
      ::posix_fadvise(at_->fd, 0, 0, POSIX_FADV_DONTNEED);
      return;
    default:
      NOTE("fdatasync");
      if (::fdatasync(at_->fd) < 0) failed_call("fdatasync");
  }
}

}  // namespace voldfs::test
