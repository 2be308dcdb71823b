#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "brick/wire/message.h"

// The seam between the server's machinery (connections, sessions, slots) and what the operations do on the
// disk (brick/server/ops_*.cc over brick/store).
namespace voldfs::store {
class Store;
}

namespace voldfs::server {

class LockTable;
class Session;
struct ServerState;

// What a slot remembers of an operation before it is carried out, so that a brick that was killed in the
// middle can tell whether it has happened. In a MAP_SHARED file: survives kill -9, costs no system call.
struct Intent {
  uint16_t op = 0;          // wire::Op
  uint16_t name_size = 0, name2_size = 0, reserved = 0;
  uint32_t flags = 0;       // of the operation
  uint32_t counts = 0;      // 1: of dir and dir2, the subdirectories are to be counted again if the operation was cut
  Id dir, dir2;             // parents of name and name2
  Id object;                // created, removed or moved
  Id object2;               // replaced
  uint64_t offset = 0;      // of an append
  uint64_t size = 0;
  char name[256] = {}, name2[256] = {};
};

// Where an operation notes its intent: under its name locks, right before its first change. For operations
// without `once` in the table it does nothing.
class IntentNote {
 public:
  virtual ~IntentNote() = default;
  virtual void write(const Intent& intent) = 0;
  // Still under the locks, when all is done: the answer, by which a repetition will be recognized. Others may change the same names from
  // here on, and nobody could tell any more by looking.
  virtual void done(wire::ReplyBuilder& reply) = 0;
};

// One request on its way through the brick. Lives on the lane's stack.
struct Call {
  const wire::RequestView& request;
  wire::ReplyBuilder& reply;
  store::Store& store;
  LockTable& locks;
  Session* session;         // null on a connection of kind 3
  uint64_t session_id = 0;
  Id client;
  IntentNote& note;
  ServerState* server = nullptr;  // for the operations on the brick itself; null in tests of handlers
};

// An operation: 0 or the status to answer; what it has to say goes into call.reply.
using Handler = Result<void> (*)(Call& call);

struct Operation {
  wire::Op op;
  const char* name;         // in metrics and logs
  Handler handler;
  uint16_t body_size;       // exactly
  bool has_name, has_name2, has_data;  // texts and payload that the request may carry
  bool once;                // changes something and is not idempotent: goes through its slot
  bool reply_data;          // needs ReplyBuilder::data_room
};

// The whole list of operations, in the order of wire::Op (brick/server/operations.cc). nullptr: unknown.
const Operation* find_operation(wire::Op op);
std::span<const Operation> all_operations();

// Called at the brick's start for each slot that noted an intent without a result: tells whether the change
// has happened, completing it if it is half done. kHappened: `reply` is what the client would have been
// told. Before any connection is accepted.
enum class Settled { kHappened, kDidNot, kUnknown };
Settled settle_intent(store::Store& store, uint64_t session_id, const Intent& intent, wire::ReplyBuilder& reply);

}  // namespace voldfs::server
