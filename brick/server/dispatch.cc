#include "brick/server/dispatch.h"

#include <chrono>
#include <thread>

#include "brick/server/changed_directories.h"
#include "brick/server/hand_out.h"
#include "brick/server/lease_effects.h"

namespace voldfs::server {

namespace {

// Answers that mean "not carried out, send it again": a slot must not remember them.
bool to_be_sent_again(int status) { return status == wire::kGrace || status == wire::kSlotBusy; }

bool has_the_right_shape(const Operation& operation, const wire::RequestHeader& header) {
  return header.body_size == operation.body_size && (operation.has_name || header.name_size == 0) &&
         (operation.has_name2 || header.name2_size == 0) && (operation.has_data || header.data_size == 0);
}

// For tests. False: nothing was to be held.
bool hold(ServerState& server, std::atomic<uint32_t>& count) {
  if (!spend(count)) return false;
  ++server.faults.held;
  while (!server.faults.release.load() && !server.stopping.load()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return true;
}

// Without a session; the connection has proved the volume's secret all the same.
bool needs_no_session(wire::Op op) {
  return op == wire::Op::kMapGet || op == wire::Op::kMapPut || op == wire::Op::kStatus;
}

int handle(ServerState& server, const std::shared_ptr<Session>& session, const Operation& operation,
        const wire::RequestView& request, IntentNote& note, wire::ReplyBuilder& reply) {
  Call call{request, reply, server.store, server.locks, session.get(), session ? session->id() : 0,
            session ? session->client() : Id{}, note, &server};
  if (server.faults.any.load(std::memory_order_relaxed)) {
    Faults::Dial& dial = server.faults.dial(operation.op);
    if (const uint32_t delay = dial.delay_ms.load(); delay != 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(delay));
    }
    hold(server, dial.hold_before);
    if (const int error = dial.error.load(); error != 0) return error;
  }
  const Result<void> result = operation.handler(call);
  return result ? 0 : result.error().code;
}

// With what others have to be told before the reply, and what the reply lets the client keep.
int run(ServerState& server, const std::shared_ptr<Session>& session, const Operation& operation,
        const wire::RequestView& request, IntentNote& note, std::vector<Payload>& payloads, wire::ReplyBuilder& reply) {
  if (!session) return handle(server, session, operation, request, note, reply);
  const bool changes = may_change(operation.op);
  if (changes && (request.header.flags & wire::kFlagReclaim) == 0) {
    // A payload is not held for so long: it comes again.
    if (!payloads.empty() && server.store.in_grace()) return wire::kGrace;
    if (!server.wait_out_grace()) return wire::kGrace;
    if (session->ended()) return wire::kSessionGone;
  }
  const uint64_t since = server.leases.now();
  const int status = handle(server, session, operation, request, note, reply);
  if (changes) session->acted(request.header.slot);
  const bool pinned = status == 0 && hand_out(server, session, request, reply);
  // Before all have reclaimed, any file may be one that was handed out.
  const auto is_pinned = [&server](const Id& file) { return server.store.in_grace() || server.pins.is_pinned(file); };
  auto told = told_by(request, reply, status, is_pinned);
  reply.header.object_sequence = pinned ? server.leases.now() : since;  // then the client drops what it was granted before
  if (changes) {
    if (!operation.reply_data) payloads.clear();
    if (const auto changed = changed_by(request, reply); !changed.empty()) {
      server.leases.changed(session->id(), changed);
      reply.header.object_sequence = server.leases.now();  // before what follows is looked at
      tell_directories(server.store, request, changed, reply, told);
    }
  }
  // Nor a client that keeps nothing (WIRE.md, "Handshake").
  if (!told.empty() && !session->ended() && !session->client().is_adopted()) {
    reply.header.grant_ms = server.leases.grant(session->id(), since, told, changes);
  }
  return status;
}

// In its slot, so that it runs once however often it is sent.
int run_in_slot(ServerState& server, const std::shared_ptr<Session>& session, const Operation& operation,
                const wire::RequestView& request, uint64_t connection, std::vector<Payload>& payloads, wire::ReplyBuilder& reply) {
  const uint16_t slot = request.header.slot;
  const bool acts = operation.once || may_change(operation.op);
  switch (session->enter(slot, request.header.sequence, operation.once, acts, connection)) {
    case Session::Entry::kBusy: return wire::kSlotBusy;
    case Session::Entry::kStale: return wire::kSlotStale;
    case Session::Entry::kGone: return wire::kSessionGone;
    case Session::Entry::kReplay:
      // What has happened before the restart may still be unknown to those who have not come back.
      // Not kGrace, which says that nothing has happened.
      if (may_change(operation.op) && !payloads.empty() && server.store.in_grace()) return wire::kSlotBusy;
      if (may_change(operation.op) && !server.wait_out_grace()) return wire::kSlotBusy;
      session->file().recall(slot, reply);
      reply.header.flags = wire::kFlagReplayed;  // and no descriptor
      reply.header.grant_ms = 0;
      server.metrics.operation(operation.op).replayed.fetch_add(1, std::memory_order_relaxed);
      return static_cast<int>(reply.header.status);
    case Session::Entry::kRun: break;
  }
  SlotNote note = operation.once ? SlotNote(session->file(), slot) : SlotNote();
  const int status = run(server, session, operation, request, note, payloads, reply);
  if (operation.once) {
    complete_header(server, request, status, reply);
    if (to_be_sent_again(status)) {
      session->file().forget(slot);
    } else if (!note.is_done()) {
      session->file().finish(slot, reply);
    }
  }
  session->leave(slot);
  // The session ended while this ran: what it may just have opened or locked is nobody's.
  if (session->ended()) server.sessions.clean_up(session->id());
  return status;
}

int check_and_run(ServerState& server, const std::shared_ptr<Session>& session, const Operation* operation,
                  const wire::RequestView& request, uint64_t connection, std::vector<Payload>& payloads, wire::ReplyBuilder& reply) {
  if (operation == nullptr) return ENOSYS;
  if (!has_the_right_shape(*operation, request.header)) return EPROTO;
  if (!session) {
    if (!needs_no_session(operation->op)) return EPERM;
    SlotNote nowhere;
    return run(server, session, *operation, request, nowhere, payloads, reply);
  }
  if (request.header.session != session->id() || session->ended()) return wire::kSessionGone;
  if (request.header.slot >= session->slots()) return EPROTO;
  session->touch();
  return run_in_slot(server, session, *operation, request, connection, payloads, reply);
}

}  // namespace

void complete_header(ServerState& server, const wire::RequestView& request, int status, wire::ReplyBuilder& reply) {
  wire::ReplyHeader& header = reply.header;
  header.magic = wire::kReplyMagic;
  header.version = wire::kVersion;
  header.op = request.header.op;
  header.status = static_cast<uint32_t>(status);
  header.sequence = request.header.sequence;
  header.map_version = server.store.map_version();
  header.verifier = server.store.verifier();
  if (server.store.unclean()) header.flags |= wire::kFlagUnclean;
}

bool dispatch(ServerState& server, const std::shared_ptr<Session>& session, const Operation* operation,
              const wire::RequestView& request, uint64_t connection, std::span<std::byte> data_room,
              std::vector<Payload>& payloads, wire::ReplyBuilder& reply) {
  const bool faulty = server.faults.any.load(std::memory_order_relaxed);
  if (faulty && spend(server.faults.dial(request.op()).cut_before)) return false;
  const int64_t begin_us = monotonic_us();
  reply.data_room = data_room;
  const int status = check_and_run(server, session, operation, request, connection, payloads, reply);
  complete_header(server, request, status, reply);
  if (!reply.data.empty()) reply.header.data_size = static_cast<uint32_t>(reply.data.size());
  server.metrics.operation(request.op())
      .add(status, monotonic_us() - begin_us, request.header.data_size, reply.header.data_size);
  if (session) {
    session->requests.fetch_add(1, std::memory_order_relaxed);
    session->bytes_in.fetch_add(request.header.data_size, std::memory_order_relaxed);
    session->bytes_out.fetch_add(reply.header.data_size, std::memory_order_relaxed);
  }
  if (!faulty) return true;
  Faults::Dial& dial = server.faults.dial(request.op());
  return !hold(server, dial.hold_after) && !spend(dial.cut_after);
}

}  // namespace voldfs::server
