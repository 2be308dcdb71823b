#include "tests/lib/crash_shared.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <utility>

namespace voldfs::test {
namespace {

constexpr char kNumber[] = "number", kLog[] = "log";

// A lock of this open file: threads of one process exclude each other by it as processes do.
bool set_lock(int fd, short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_SETLKW, &lock) == 0;
}

bool is_right(bool right, const char* what) {
  EXPECT_TRUE(right) << what << ": " << std::strerror(errno);
  return right;
}

}  // namespace

CrashShared::CrashShared(std::filesystem::path directory, std::string name)
    : name_(std::move(name)),
      number_(::open((directory / kNumber).c_str(), O_RDWR | O_CLOEXEC)),
      log_(::open((directory / kLog).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC)) {}

CrashShared::~CrashShared() {
  ::close(number_);
  ::close(log_);
}

void CrashShared::begin(const std::filesystem::path& directory) {
  const uint64_t zero = 0;
  std::ofstream(directory / kNumber, std::ios::binary).write(reinterpret_cast<const char*>(&zero), sizeof zero);
  std::ofstream(directory / kLog).flush();
}

bool CrashShared::step() {
  if (!is_right(number_ >= 0 && log_ >= 0, "open") || !add_one() || !append_line()) return false;
  steps_++;
  return true;
}

bool CrashShared::add_one() {
  uint64_t number = 0;
  if (!is_right(set_lock(number_, F_WRLCK), "lock")) return false;
  const bool added = is_right(::pread(number_, &number, sizeof number, 0) == sizeof number, "read") &&
                     is_right(::pwrite(number_, &++number, sizeof number, 0) == sizeof number, "write");
  return is_right(set_lock(number_, F_UNLCK), "unlock") && added;
}

bool CrashShared::append_line() {
  const std::string line = name_ + " " + std::to_string(steps_) + "\n";
  return is_right(::write(log_, line.data(), line.size()) == static_cast<ssize_t>(line.size()), "append");
}

void CrashShared::check(const std::filesystem::path& directory, const std::vector<std::unique_ptr<CrashShared>>& clients) {
  uint64_t sum = 0, number = 0;
  for (const auto& client : clients) sum += client->steps_;
  std::ifstream(directory / kNumber, std::ios::binary).read(reinterpret_cast<char*>(&number), sizeof number);
  EXPECT_EQ(number, sum) << "the lock did not exclude, or a write was lost or done twice";
  std::map<std::string, uint64_t> seen;
  std::ifstream log(directory / kLog);
  std::string name;
  uint64_t step = 0;
  while (log >> name >> step) {
    EXPECT_EQ(step, seen[name]) << "line of " << name;
    seen[name] = step + 1;
  }
  EXPECT_TRUE(log.eof());
  for (const auto& client : clients) EXPECT_EQ(seen[client->name_], client->steps_) << client->name_;
}

}  // namespace voldfs::test
