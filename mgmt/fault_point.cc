#include "mgmt/fault_point.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "brick/base/clock.h"

namespace voldfs::mgmt {

namespace {

const char* directory() {
  static const char* const named = ::getenv("VOLDFS_MGMT_FAULTS");
  return named;
}

}  // namespace

void fault_point(std::string_view name) {
  if (!directory()) return;
  const std::string base = directory(), step(name);
  const int fd = ::open((base + "/seen/" + step).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd >= 0) ::close(fd);
  if (::unlink((base + "/kill/" + step).c_str()) == 0) ::kill(::getpid(), SIGKILL);
  int slow_ms = 0;
  const std::string slow = base + "/slow/" + step;
  if (std::ifstream(slow) >> slow_ms) {
    for (const int64_t until = boottime_ms() + slow_ms; boottime_ms() < until && ::access(slow.c_str(), F_OK) == 0;) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void fault_point_of_file(std::string_view path, const char* step) {
  if (!directory()) return;
  const std::filesystem::path file(path);
  const std::string parent = file.parent_path().filename(), extension = file.extension();
  const std::string kind = parent == "maps" ? "map" + extension : parent == "bricks" ? "brick" + extension : file.filename().string();
  fault_point("file." + kind + "." + step);
}

bool cut_off(const std::string& address) {
  return directory() && ::access((std::string(directory()) + "/cut/" + address).c_str(), F_OK) == 0;
}

bool entries_cut_off(const std::string& address) { return cut_off(address + ".entries"); }

}  // namespace voldfs::mgmt
