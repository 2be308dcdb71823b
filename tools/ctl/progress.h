#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "tools/ctl/state_source.h"

namespace voldfs::ctl {

// One line on the terminal's stderr while a verb waits, rewritten in place and gone in the end; from the first second on, so
// that what is quick shows nothing. Nothing at all where nobody looks: no terminal, --json, --mode=script.
class Progress {
 public:
  // Asked again and again, on a thread of its own, what is being waited for: the verb and a few words.
  using Describe = std::function<std::string()>;
  Progress(const Place& place, Describe describe);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

 private:
  void run();

  const Describe describe_;
  const int64_t begun_ms_;
  std::mutex mutex_;
  std::condition_variable over_changed_;  // with mutex_
  bool over_ = false;                     // guarded by mutex_
  std::thread thread_;                    // none: nobody looks
};

// What holds a change up, as far as this node's daemon knows: no leader, peers that do not answer.
std::string what_holds_up(const Place& place);

}  // namespace voldfs::ctl
