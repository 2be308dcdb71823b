#include "fuse/interrupts.h"

#include <algorithm>

#include "brick/client/brick_client.h"

namespace voldfs::fuse {

void Interrupts::begin(uint64_t unique, std::atomic<bool>& flag) {
  Shard& shard = this->shard(unique);
  std::lock_guard lock(shard.mutex);
  if (const auto early = std::find(shard.early.begin(), shard.early.end(), unique); early != shard.early.end()) flag = true;
  shard.requests.push_back({unique, &flag, 0, 0});
}

bool Interrupts::park(uint64_t unique, uint64_t ticket, uint32_t thread) {
  if (cancel_) look_later();
  Shard& shard = this->shard(unique);
  std::lock_guard lock(shard.mutex);
  const auto request = std::find_if(shard.requests.begin(), shard.requests.end(), [&](const Request& r) { return r.unique == unique; });
  if (request == shard.requests.end()) return true;
  const bool interrupted = request->flag->load();
  request->flag = nullptr, request->ticket = ticket, request->thread = thread;
  return !interrupted;
}

void Interrupts::end(uint64_t unique) {
  Shard& shard = this->shard(unique);
  std::lock_guard lock(shard.mutex);
  std::erase_if(shard.requests, [&](const Request& r) { return r.unique == unique; });
}

uint64_t Interrupts::interrupt(uint64_t unique) {
  Shard& shard = this->shard(unique);
  std::lock_guard lock(shard.mutex);
  const auto request = std::find_if(shard.requests.begin(), shard.requests.end(), [&](const Request& r) { return r.unique == unique; });
  if (request == shard.requests.end()) {
    shard.early[shard.next_early++ % shard.early.size()] = unique;
    return 0;
  }
  if (request->flag) *request->flag = true;
  return request->ticket;
}

void Interrupts::look_later() {
  if (looking_.exchange(true)) return;
  later_.run(kLook, [this] { look(); });
}

void Interrupts::look() {
  looking_ = false;
  std::vector<Request> parked;
  for (Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    for (const Request& request : shard.requests)
      if (!request.flag) parked.push_back(request);
  }
  if (!parked.empty()) look_later();
  for (const Request& request : parked)
    if (client::has_signal(request.thread)) cancel_(request.ticket);
}

}  // namespace voldfs::fuse
