#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "brick/server/operation.h"

// What a session remembers beyond the brick's death: `sessions/N` of FORMAT.md, mapped.
namespace voldfs::server {

enum class SlotState : uint32_t { kEmpty = 0, kBegun = 1, kNoted = 2, kDone = 3 };

inline constexpr uint64_t kSlotFileMagic = 0x3153534553444c56;  // "VLDSESS1"
inline constexpr size_t kSlotFileHeader = 4096;
inline constexpr size_t kSlotBytes = 2048;

struct SlotFileHeader {
  uint64_t magic;
  uint64_t session;
  Id client;
  uint32_t slots;
  uint32_t slot_bytes;
  int64_t lease_end_ms;  // boottime_ms()
  Id boot;
};
static_assert(sizeof(SlotFileHeader) == 64);

struct SlotRecord {
  uint64_t sequence;
  uint32_t state;
  uint32_t reply_bytes;
  Intent intent;
  std::byte reply[kSlotBytes - 16 - sizeof(Intent)];  // ReplyHeader, body, name, name2
};
static_assert(sizeof(Intent) == 608 && sizeof(SlotRecord) == kSlotBytes);

// The memory of one session's slots. It outlives kill -9, since it is the page cache's; a store is all that it takes.
// The order of the stores is what a restart relies on: the state is written last, and is read first. Each slot is
// used by one thread at a time (Session sees to that); the header by any.
class SlotFile {
 public:
  // Makes `sessions/NUMBER` below `dot`, with its blocks allocated: a full disk is met here and not as SIGBUS later.
  static Result<std::unique_ptr<SlotFile>> create(int dot, const Id& boot, uint64_t session, const Id& client, uint32_t slots);
  // As create(), without a file: for a session that a full disk has no room for. Does not survive the process.
  static Result<std::unique_ptr<SlotFile>> create_volatile(const Id& boot, uint64_t session, const Id& client, uint32_t slots);
  // Maps a file of an earlier life. EPROTO: it is none, or damaged; ESTALE: of an earlier boot of the host.
  static Result<std::unique_ptr<SlotFile>> open(int dot, const Id& boot, const std::string& name);
  ~SlotFile();
  SlotFile(const SlotFile&) = delete;
  SlotFile& operator=(const SlotFile&) = delete;

  const SlotFileHeader& header() const { return *header_; }
  void set_lease_end(int64_t boottime_ms);
  uint32_t slots() const { return header_->slots; }

  SlotState state(uint32_t slot) const;
  uint64_t sequence(uint32_t slot) const { return record(slot).sequence; }
  const Intent& intent(uint32_t slot) const { return record(slot).intent; }
  void begin(uint32_t slot, uint64_t sequence);
  void note(uint32_t slot, const Intent& intent);
  void forget(uint32_t slot);  // the request changed nothing and may be sent again
  // Remembers a reply, without payload. REQUIRES: header sizes are those of the parts.
  void finish(uint32_t slot, const wire::ReplyBuilder& reply);
  // The same of an answer that has no header yet. REQUIRES: the slot has noted its intent.
  void finish_with(uint32_t slot, int status, wire::ReplyBuilder& reply);
  void recall(uint32_t slot, wire::ReplyBuilder& reply) const;

  // From now on no outcome is written any more, as if the process had been killed. For tests: in a process that lives on, an operation that is
  // running goes on to the disk, so what it is about to do there still is.
  void freeze() { frozen_.store(true, std::memory_order_relaxed); }

 private:
  SlotFile(void* memory, size_t bytes) : memory_(memory), bytes_(bytes), header_(static_cast<SlotFileHeader*>(memory)) {}
  SlotRecord& record(uint32_t slot) const {
    return reinterpret_cast<SlotRecord*>(static_cast<std::byte*>(memory_) + kSlotFileHeader)[slot];
  }
  void set_state(uint32_t slot, SlotState state);
  bool frozen() const { return frozen_.load(std::memory_order_relaxed); }

  void* memory_;
  size_t bytes_;
  SlotFileHeader* header_;
  std::atomic<bool> frozen_{false};
};

}  // namespace voldfs::server
