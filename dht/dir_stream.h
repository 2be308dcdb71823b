#pragma once

#include <map>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "dht/dirent_view.h"
#include "dht/volume_impl.h"

namespace voldfs::dht {

// A directory being read, brick after brick of its set; of each brick only the names that it is the authority of.
// Positions are stateless ({ordinal 10 bits, the brick's position 53 bits}); what is kept here saves requests: the pages at
// hand, where bricks have no more and, of an adopted directory, the names that an earlier brick has had. Attributes are never kept
// from one read to the next: the kernel takes what a read brings for newer than anything that happened before it, also than what
// this mount has changed since.
//
// Readers of one stream wait for each other, as the kernel has readers of one open directory wait.
class DirStream {
 public:
  DirStream(Volume::Impl& volume, const NodePtr& dir) : volume_(volume), dir_(dir) {}

  // As Volume::read_directory.
  Result<void> read(uint64_t cookie, uint32_t attr_room, const Caller& caller, const std::function<bool(const ListedEntry&)>& take);

 private:
  using Take = std::function<bool(const ListedEntry&)>;
  struct Page {
    uint64_t start = 0;                // position that it was asked for
    uint64_t end = 0;                  // position to go on from
    bool last = false;                 // the brick has no more
    size_t next = 0;                   // entries that were delivered
    Grant grant{};
    wire::Reply reply;                 // holds what `entries` borrow
    std::vector<DirentView> entries;
    uint64_t position() const { return next == 0 ? start : entries[next - 1].header.position; }
  };
  enum class Step { kFull, kEnd };

  Result<void> start(const Caller& caller);
  Result<bool> take_dots(uint64_t& cookie, const Take& take) const;
  Result<Step> read_brick(size_t at, uint64_t position, uint32_t attr_room, const Caller& caller, const Take& take);
  Result<void> fetch(size_t at, uint64_t position, uint32_t attr_room, const Caller& caller);
  Result<void> accept(Answer& answer, uint64_t position);
  wire::Request page_request(uint64_t position, uint32_t attr_room) const;
  Result<bool> list(uint16_t ordinal, const Page& page, const DirentView& entry, const Caller& caller, ListedEntry& out);
  Result<bool> is_name(uint16_t ordinal, const DirentView& entry, const Caller& caller, ListedEntry& out);
  void postpone(size_t at);
  void note_first_page(const Page& page);

  Volume::Impl& volume_;
  const NodePtr dir_;
  std::mutex mutex_;
  wire::DirRecord record_{};                    // guarded by mutex_, as all that follows
  std::vector<uint16_t> order_;                 // bricks, in the order in which they are read; empty: not started
  std::map<uint16_t, Page> pages_;              // at most one a brick, kPrefetchMax at once
  std::map<uint16_t, uint64_t> ends_;           // of bricks that were read to the end: the position there
  Node::Listing listing_;                       // the first pages so far
  std::unordered_set<std::string> names_;       // epoch 0: of the bricks before
};

}  // namespace voldfs::dht
