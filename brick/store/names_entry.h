#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "brick/base/result.h"
#include "brick/store/directories.h"
#include "brick/store/record.h"
#include "brick/wire/message.h"
#include "brick/wire/ops.h"

namespace voldfs::store {

class Store;

// What an operation is about to change, so that the brick's next life can tell whether it happened (server::Intent).
struct Change {
  Id object{};        // created, removed or moved
  Id object2{};       // replaced
  uint32_t mode = 0;  // of what goes away
  uint32_t nlink = 0;
  uint16_t backup = 0;  // of a directory that goes away
  bool counts = false;  // names that lead to directories come or go
  Id dir{};             // whose names, if the request does not say
};

// What a slot notes of an operation. Both are called under the operation's locks: begin() right before its first change, done()
// when nothing is left to be done and nobody else has seen it yet. So whatever a kill finds begun and not done is on the disk as the
// operation left it.
class ChangeNote {
 public:
  using Begin = std::function<void(const Change&)>;
  using Say = std::function<void(wire::ReplyBuilder&)>;  // the answer
  ChangeNote(Begin begin, std::function<void(const Say&)> done) : begin_(std::move(begin)), done_(std::move(done)) {}

  void begin(const Change& change) const { begin_(change); }
  void done(const Say& say) const { done_(say); }
  void done() const {
    done_([](wire::ReplyBuilder&) {});
  }
  template <class Body>
  void done_with(const Body& body) const {
    done_([&body](wire::ReplyBuilder& reply) { reply.set_body(body); });
  }

 private:
  const Begin begin_;
  const std::function<void(const Say&)> done_;
};

// A name from the wire, for operations that make or change it: EINVAL, ENAMETOOLONG; EPERM for voldfs's own in the root.
Result<void> check_new_name(const Directory& dir, std::string_view name);
// The same for those that look: ENOENT for voldfs's own.
Result<void> check_known_name(const Directory& dir, std::string_view name);

// What a name leads to, as the wire says it. Under the name's lock. An object without an id gets one (adoption, FORMAT.md rule
// 3). ENOENT; also for a skeleton, which is nobody's name.
Result<wire::EntryBody> read_entry(Store& store, const Directory& dir, const std::string& name);

// A file that may be a link stub, by its attributes alone.
bool looks_like_stub(const wire::Attr& attr);
// The entry's stub, if it is one. ENOENT.
Result<std::optional<wire::Link>> read_link_at(int dir, const char* name);
// The entry's leaving mark, if it has one for this name. ENOENT.
Result<std::optional<Leaving>> read_leaving_at(int dir, const char* name, const Id& dir_id);

// A mark stays on its object where a cleanup was cut after the name had gone, and says nothing; it would again if the object were
// given that name once more. Whoever gives a name to what has been there drops such a mark first. Under the name's lock.
Result<void> drop_dead_mark(int object, const Directory& to, const std::string& name);
Result<void> drop_dead_mark(int dir, const std::string& entry, const Directory& to, const std::string& name);

// Whether an entry is a directory that only lies here by convenience, for its name is elsewhere: a copy, or home after a rename to
// another authority. It gives way to whatever has a claim.
bool is_mere_copy(const wire::EntryBody& entry);

// Refuses an entry that takes part in a transaction (kLeaving) or is not what the request expects (kOtherId).
Result<void> check_entry(const wire::EntryBody& entry, const Id& expected);

// Puts the times of a directory back that an operation of voldfs itself touches. The directory's entries() is held
// exclusively, so that no user's change is undone. -1: nothing is put back.
class KeepTimes {
 public:
  explicit KeepTimes(int dir);
  ~KeepTimes();
  KeepTimes(const KeepTimes&) = delete;
  KeepTimes& operator=(const KeepTimes&) = delete;

 private:
  const int dir_;
  timespec mtime_{};
  bool known_ = false;
};

// Takes DIR/NAME out of the tree, into .voldfs/parked (FORMAT.md), whatever it is. Handles and index still lead to it.
Result<void> park(Store& store, int dir, const std::string& name, const std::string& parked_name);
std::string parked_name(const wire::EntryBody& entry, const Id& dir, const std::string& name);

}  // namespace voldfs::store
