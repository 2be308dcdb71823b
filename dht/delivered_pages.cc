#include "dht/delivered_pages.h"

#include <algorithm>

namespace voldfs::dht {

void DeliveredPages::Page::begin(DeliveredPages& all, const Id& directory) {
  end();
  std::lock_guard lock(all.mutex_);
  all_ = &all, number_ = ++all.last_;
  all.pages_.emplace(number_, Delivered{directory, std::chrono::steady_clock::now()});
}

void DeliveredPages::Page::end() {
  if (!all_) return;
  {
    std::lock_guard lock(all_->mutex_);
    all_->pages_.erase(number_);
  }
  all_->ended_.notify_all();
  all_ = nullptr;
}

bool DeliveredPages::wait(const Id& directory) {
  std::unique_lock lock(mutex_);
  const uint64_t last = last_;
  bool waited = false;
  for (;;) {
    const auto now = std::chrono::steady_clock::now();
    const auto page = std::find_if(pages_.begin(), pages_.end(), [&](const auto& each) {
      return each.first <= last && each.second.directory == directory && now < each.second.at + kLinkedWithin;
    });
    if (page == pages_.end()) return waited;
    waited = true;
    const auto until = page->second.at + kLinkedWithin;  // the page may end meanwhile
    ended_.wait_until(lock, until);
  }
}

}  // namespace voldfs::dht
