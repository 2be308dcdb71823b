#include "tools/ctl/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>

#include "brick/base/clock.h"

namespace voldfs::ctl {

namespace {

constexpr std::chrono::milliseconds kSilentFirst{1000}, kPeriod{300};

// One line of the terminal, so that it can be taken back.
std::string fitted(std::string text) {
  winsize size{};
  const size_t columns = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u : 79;
  if (text.size() > columns) text = text.substr(0, columns > 3 ? columns - 3 : 0) + "...";
  return text;
}

// At once: a line that is half there looks like nothing.
void put(const std::string& text) { static_cast<void>(!::write(STDERR_FILENO, text.data(), text.size())); }

}  // namespace

Progress::Progress(const Place& place, Describe describe) : describe_(std::move(describe)), begun_ms_(boottime_ms()) {
  if (!place.script && !place.json && ::isatty(STDERR_FILENO)) thread_ = std::thread([this] { run(); });
}

Progress::~Progress() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  over_changed_.notify_all();
  thread_.join();
}

void Progress::run() {
  bool shown = false;
  const auto over = [&](std::chrono::milliseconds wait) {
    std::unique_lock lock(mutex_);
    return over_changed_.wait_for(lock, wait, [this] { return over_; });
  };
  for (auto wait = kSilentFirst; !over(wait); wait = kPeriod) {
    const std::string text = describe_();
    if (text.empty()) continue;
    put("\r" + fitted(text + " (" + std::to_string((boottime_ms() - begun_ms_) / 1000) + " s)") + "\033[K");
    shown = true;
  }
  if (shown) put("\r\033[K");
}

std::string what_holds_up(const Place& place) {
  const auto reading = read_cluster(place, true, "");
  if (!reading || reading->from_files) return "waiting for voldmgmt on this node";
  std::string names;
  for (const Json& name : reading->status.value("missing", Json::array())) names += (names.empty() ? "" : ", ") + name.get<std::string>();
  const std::string silent = names.empty() ? "" : "; these peers do not answer: " + names;
  return (reading->quorum ? "waiting for the cluster's answer" : "waiting for the voters to agree on a leader") + silent;
}

}  // namespace voldfs::ctl
