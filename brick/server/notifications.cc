#include "brick/server/notifications.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "brick/base/clock.h"
#include "brick/server/limits.h"

namespace voldfs::server {

Notifications::Notifications() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_) throw std::system_error(errno, std::generic_category(), "eventfd");
}

uint64_t Notifications::push(wire::Op op, const void* body, size_t body_size, std::string_view name,
                             uint64_t map_version) {
  wire::ReplyHeader header{};
  header.magic = wire::kReplyMagic;
  header.version = wire::kVersion;
  header.op = static_cast<uint16_t>(op);
  header.body_size = static_cast<uint16_t>(body_size);
  header.name_size = static_cast<uint16_t>(name.size());
  header.map_version = map_version;
  {
    std::lock_guard lock(mutex_);
    if (pending_.size() >= kNotificationsMax) return 0;
    header.sequence = ++last_sequence_;
    std::string frame(reinterpret_cast<const char*>(&header), sizeof header);
    frame.append(static_cast<const char*>(body), body_size).append(name);
    pending_.push_back({header.sequence, token_, std::move(frame)});
  }
  wake();
  return header.sequence;
}

void Notifications::acknowledge(uint64_t sequence) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < sent_; ++i) {
    if (pending_[i].sequence != sequence) continue;
    pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(i));
    --sent_;
    acknowledged_.notify_all();
    return;
  }
}

bool Notifications::await_acknowledged(uint64_t sequence, int64_t deadline) {
  std::unique_lock lock(mutex_);
  const auto done = [&] {
    const auto found = std::find_if(pending_.begin(), pending_.end(), [&](const Pending& p) { return p.sequence == sequence; });
    return found == pending_.end() || found->token != token_;
  };
  return acknowledged_.wait_for(lock, std::chrono::milliseconds(deadline - boottime_ms()), done);
}

uint64_t Notifications::attach() {
  uint64_t token;
  {
    std::lock_guard lock(mutex_);
    token = ++token_;
    sent_ = 0;
    acknowledged_.notify_all();
  }
  wake();
  return token;
}

std::vector<std::string> Notifications::take(uint64_t token) {
  eventfd_t ignored;
  ::eventfd_read(wake_.get(), &ignored);  // EAGAIN: nobody woke us
  std::vector<std::string> frames;
  std::lock_guard lock(mutex_);
  if (token != token_) return frames;
  for (; sent_ < pending_.size(); ++sent_) frames.push_back(pending_[sent_].frame);
  return frames;
}

bool Notifications::attached(uint64_t token) const {
  std::lock_guard lock(mutex_);
  return token == token_;
}

void Notifications::wake() { ::eventfd_write(wake_.get(), 1); }

size_t Notifications::waiting() const {
  std::lock_guard lock(mutex_);
  return pending_.size();
}

}  // namespace voldfs::server
