#include "mgmt/consensus.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <xxhash.h>

#include <cstring>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "brick/base/clock.h"
#include "mgmt/libraft.h"
#include "mgmt/raft_transport.h"
#include "mgmt/voter_io.h"

// One thread runs a libuv loop with libraft in it; everything of libraft is touched there alone. Others hand it tasks.
// What libraft makes durable passes through VoterIo, which keeps a second copy of the promises in it.

namespace voldfs::mgmt {

namespace {

constexpr uint64_t kStatusPeriodMs = 50;
constexpr size_t kSegmentSize = 1 << 20;  // of the log's files
// Entries are refused when less space than this is set aside for them; it must be below what libraft keeps prepared.
constexpr unsigned short kCapacityMinKiB = 256;
constexpr unsigned kSnapshotThreshold = 1024, kSnapshotTrailing = 256;
constexpr unsigned kConnectRetryMs = 200;

std::string address_of(uint64_t voter) { return "voter-" + std::to_string(voter); }

Outcome outcome_of(int status) {
  switch (status) {
    case 0: return Outcome::kCommitted;
    case RAFT_NOSPACE: return Outcome::kNoSpace;
    case RAFT_LEADERSHIPLOST:
    case RAFT_SHUTDOWN:
    case RAFT_CANCELED: return Outcome::kUnknown;
    default: return Outcome::kNotLeading;
  }
}

// An entry is the command's size (u64), the command, and zeros up to a multiple of 8 bytes, as libraft wants it.
raft_buffer encode_command(std::string_view command) {
  const uint64_t size = command.size();
  const size_t padded = (sizeof size + command.size() + 7) / 8 * 8;
  raft_buffer buffer{raft_calloc(1, padded), padded};
  if (!buffer.base) return buffer;
  std::memcpy(buffer.base, &size, sizeof size);
  command.copy(static_cast<char*>(buffer.base) + sizeof size, command.size());  // which may be empty, and nowhere
  return buffer;
}

std::string_view decode_command(const raft_buffer& buffer) {
  uint64_t size = 0;
  if (buffer.len < sizeof size) return {};
  std::memcpy(&size, buffer.base, sizeof size);
  if (size > buffer.len - sizeof size) return {};
  return {static_cast<const char*>(buffer.base) + sizeof size, size};
}

// libraft's own checksum of a snapshot is of what it says about the snapshot, not of the content. Ours (XXH3_64) stands behind it.
std::string with_sum(std::string snapshot) {
  const uint64_t sum = XXH3_64bits(snapshot.data(), snapshot.size());
  return snapshot.append(reinterpret_cast<const char*>(&sum), sizeof sum);
}

// Nothing: it is damaged.
std::optional<std::string_view> without_sum(std::string_view bytes) {
  uint64_t sum = 0;
  if (bytes.size() < sizeof sum) return std::nullopt;
  std::memcpy(&sum, bytes.data() + bytes.size() - sizeof sum, sizeof sum);
  bytes.remove_suffix(sizeof sum);
  return sum == XXH3_64bits(bytes.data(), bytes.size()) ? std::optional(bytes) : std::nullopt;
}

// A request of libraft's and who waits for it.
template <class Request>
struct Pending {
  Request request{};
  Consensus::Done done;
};

using Apply = struct raft_apply;
using Transfer = struct raft_transfer;  // libraft has functions of the same names

}  // namespace

struct Consensus::Impl {
  Impl(ConsensusOptions options_in, StateMachine& machine_in)
      : options(std::move(options_in)), machine(machine_in),
        io({options.memory_path, options.cluster, options.voter, options.must_exist, options.cut_off,
            [this](std::function<void()> task) { post(std::move(task)); }, [this] { snapshot_written(); }}) {}

  const ConsensusOptions options;
  StateMachine& machine;

  // The log's thread alone.
  uv_loop_t loop{};
  uv_async_t wake{};
  uv_timer_t ticker{};
  std::unique_ptr<RaftTransport> transport;
  VoterIo io;
  raft_fsm fsm{};
  struct raft raft{};
  bool raft_open = false, stopping = false;
  raft_term begun_term = 0;  // which begin_term() has seen to
  uint64_t snapshots = 0, snapshot_begun_ns = 0;  // the latter 0: none is under way
  int64_t snapshot_us = 0;
  LogFailure failure;

  std::thread thread;
  mutable std::mutex mutex;
  std::vector<std::function<void()>> tasks;  // guarded by mutex
  bool closed = false;                       // guarded by mutex: takes no more tasks
  ConsensusStatus status;                    // guarded by mutex

  bool open();
  bool start_log();
  bool begin_alone();
  void make_machine();
  void run(std::promise<bool>& started);
  void close_loop();
  void run_tasks();
  void publish();
  void begin_term();
  void snapshot_written();
  int append(std::string_view command, Apply* request);
  void begin_stop();
  bool post(std::function<void()> task);

  template <class Request, class Call>
  void request(Done done, Call call);

  bool fail_with(const char* what, int code, const char* detail) {
    // Damaged files, and files that lead nowhere, are forgotten promises; a full disk or a used address is not.
    failure.forgotten = failure.forgotten || code == RAFT_CORRUPT || code == RAFT_MALFORMED;
    if (failure.sentence.empty()) failure.sentence = std::string(what) + ": " + raft_strerror(code) + (detail && *detail ? std::string(" (") + detail + ")" : "") + ".";
    return false;
  }
};

void Consensus::Impl::make_machine() {
  fsm.version = 2;
  fsm.data = this;
  fsm.apply = [](raft_fsm* fsm, const raft_buffer* command, void** result) {
    Impl& self = *static_cast<Impl*>(fsm->data);
    *result = nullptr;
    const std::string_view text = decode_command(*command);
    if (!text.empty()) self.machine.apply(raft_last_applied(&self.raft) + 1, text);  // empty: begin_term()
    return 0;
  };
  fsm.snapshot = [](raft_fsm* fsm, raft_buffer** buffers, unsigned* n) {
    Impl& self = *static_cast<Impl*>(fsm->data);
    self.snapshot_begun_ns = uv_hrtime();
    const std::string snapshot = with_sum(self.machine.snapshot());
    *buffers = static_cast<raft_buffer*>(raft_malloc(sizeof **buffers));
    if (!*buffers) return static_cast<int>(RAFT_NOMEM);
    (*buffers)[0].len = snapshot.size();
    (*buffers)[0].base = raft_malloc(snapshot.size());
    if (!(*buffers)[0].base) return static_cast<int>(RAFT_NOMEM);
    std::memcpy((*buffers)[0].base, snapshot.data(), snapshot.size());
    *n = 1;
    return 0;
  };
  fsm.snapshot_finalize = [](raft_fsm*, raft_buffer** buffers, unsigned* n) {
    for (unsigned i = 0; *buffers && i < *n; ++i) raft_free((*buffers)[i].base);
    raft_free(*buffers);
    *buffers = nullptr;
    *n = 0;
    return 0;
  };
  fsm.restore = [](raft_fsm* fsm, raft_buffer* buffer) {
    Impl& self = *static_cast<Impl*>(fsm->data);
    const auto snapshot = without_sum({static_cast<const char*>(buffer->base), buffer->len});
    if (!snapshot) {
      spdlog::error("snapshot damaged directory={}", self.options.directory);
      self.failure.sentence = "The snapshot in " + self.options.directory + " is damaged: its checksum is not that of its content.";
      return static_cast<int>(RAFT_CORRUPT);
    }
    const auto restored = self.machine.restore(*snapshot);
    if (!restored) {
      spdlog::error("snapshot refused reason={}", restored.error());
      return static_cast<int>(RAFT_MALFORMED);
    }
    raft_free(buffer->base);  // ours, once it is taken
    return 0;
  };
}

bool Consensus::Impl::open() {
  transport = std::make_unique<RaftTransport>(
      &loop, RaftTransport::Options{options.cluster, options.tls, options.listen, options.resolve, options.refuse});
  if (const auto bound = transport->bind(); !bound) {
    failure.sentence = bound.error();
    transport->get()->close(transport->get(), [](raft_uv_transport*) {});
    return false;
  }
  io.version = 1;
  if (const int failed = raft_uv_init(&io, &loop, options.directory.c_str(), transport->get())) {
    transport->get()->close(transport->get(), [](raft_uv_transport*) {});
    return fail_with("The log could not be opened", failed, io.errmsg);
  }
  raft_uv_set_segment_size(&io, kSegmentSize);
  raft_uv_set_connect_retry_delay(&io, kConnectRetryMs);
  // A damaged segment is not to be cut off in silence: the peers have what was in it.
  raft_uv_set_auto_recovery(&io, false);
  make_machine();
  if (const int failed = raft_init(&raft, &io, &fsm, options.voter, address_of(options.voter).c_str())) {
    transport->get()->close(transport->get(), [](raft_uv_transport*) {});
    raft_uv_close(&io);
    return fail_with("The log could not be opened", failed, io.errmsg);
  }
  raft.data = this;
  raft_open = true;
  return start_log();
}

// A new log, or the old one, with this voter as its only member.
bool Consensus::Impl::begin_alone() {
  raft_configuration configuration;
  raft_configuration_init(&configuration);
  int failed = raft_configuration_add(&configuration, options.voter, address_of(options.voter).c_str(), RAFT_VOTER);
  if (!failed) failed = options.recover ? raft_recover(&raft, &configuration) : raft_bootstrap(&raft, &configuration);
  raft_configuration_close(&configuration);
  return failed ? fail_with("The log could not be begun", failed, raft_errmsg(&raft)) : true;
}

bool Consensus::Impl::start_log() {
  raft_set_election_timeout(&raft, options.election_ms);
  raft_set_heartbeat_timeout(&raft, options.heartbeat_ms);
  raft_set_pre_vote(&raft, true);
  raft_set_snapshot_threshold(&raft, kSnapshotThreshold);
  raft_set_snapshot_trailing(&raft, kSnapshotTrailing);
  raft_set_max_catch_up_rounds(&raft, 100);
  raft_set_capacity_threshold(&raft, kCapacityMinKiB);
  raft_seed(&raft, static_cast<unsigned>(options.voter ^ static_cast<uint64_t>(boottime_ms())));
  if ((options.bootstrap || options.recover) && !begin_alone()) return false;
  io.wrap();
  if (const int failed = raft_start(&raft)) return fail_with("The log could not be read", failed, raft_errmsg(&raft));
  if (io.forgotten()) {
    failure.forgotten = true;
    failure.sentence = "The log in " + options.directory + " knows less than this node has promised to its peers.";
    return false;
  }
  return true;
}

bool Consensus::Impl::post(std::function<void()> task) {
  const std::lock_guard lock(mutex);
  if (closed) return false;
  tasks.push_back(std::move(task));
  uv_async_send(&wake);
  return true;
}

void Consensus::Impl::run_tasks() {
  std::vector<std::function<void()>> now;
  {
    const std::lock_guard lock(mutex);
    now.swap(tasks);
  }
  for (auto& task : now) task();
}

void Consensus::Impl::publish() {
  ConsensusStatus next;
  next.leading = raft_state(&raft) == RAFT_LEADER;
  raft_id leader = 0;
  const char* address = nullptr;
  raft_leader(&raft, &leader, &address);
  next.leader = leader;
  next.term = raft.current_term;
  next.last_index = raft_last_index(&raft);
  next.last_term = io.last_term();
  next.snapshots = snapshots;
  next.snapshot_us = snapshot_us;
  next.applied = raft_last_applied(&raft);
  // After a restart nobody knows yet which entries of former terms are committed: a leader learns it by committing one of its own
  // (begin_term()), the others from the leader. Until then the commit index tells of the past.
  if (leader != 0 && next.applied == next.last_index) machine.caught_up();
  if (next.leading && begun_term != next.term) begin_term();
  for (unsigned i = 0; i < raft.configuration.n; ++i) {
    const raft_server& server = raft.configuration.servers[i];
    const MemberRole role = server.role == RAFT_VOTER     ? MemberRole::kVoter
                            : server.role == RAFT_STANDBY ? MemberRole::kStandby
                                                          : MemberRole::kSpare;
    next.members.push_back({server.id, role});
  }
  const std::lock_guard lock(mutex);
  next.led_until_ms = next.leader ? boottime_ms() : status.led_until_ms;
  status = std::move(next);
}

// One that came from the leader was not begun here.
void Consensus::Impl::snapshot_written() {
  const uint64_t begun = std::exchange(snapshot_begun_ns, 0);
  if (begun == 0) return;
  ++snapshots;
  snapshot_us = static_cast<int64_t>((uv_hrtime() - begun) / 1000);
}

void Consensus::Impl::begin_stop() {
  if (std::exchange(stopping, true)) return;
  {
    const std::lock_guard lock(mutex);
    closed = true;
  }
  uv_timer_stop(&ticker);
  uv_close(reinterpret_cast<uv_handle_t*>(&ticker), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&wake), nullptr);
  if (!raft_open) return;
  raft_close(&raft, [](struct raft* closing) {
    Impl& self = *static_cast<Impl*>(closing->data);
    raft_uv_close(&self.io);
    self.raft_open = false;
  });
}

void Consensus::Impl::run(std::promise<bool>& started) {
  sigset_t pipe;  // a peer that hangs up is an error of a write
  ::sigemptyset(&pipe);
  ::sigaddset(&pipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  uv_loop_init(&loop);
  wake.data = ticker.data = this;
  uv_async_init(&loop, &wake, [](uv_async_t* handle) { static_cast<Impl*>(handle->data)->run_tasks(); });
  uv_timer_init(&loop, &ticker);
  const bool opened = open();
  if (opened) {
    publish();
    uv_timer_start(&ticker, [](uv_timer_t* timer) { static_cast<Impl*>(timer->data)->publish(); }, 0, kStatusPeriodMs);
  } else {
    begin_stop();
    uv_run(&loop, UV_RUN_DEFAULT);
    close_loop();
  }
  started.set_value(opened);
  if (!opened) return;
  uv_run(&loop, UV_RUN_DEFAULT);  // until begin_stop() has closed everything
  close_loop();
}

void Consensus::Impl::close_loop() {
  if (const int left = uv_loop_close(&loop)) spdlog::error("log not closed cleanly reason={}", uv_strerror(left));
}

Consensus::Consensus(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

tl::expected<std::unique_ptr<Consensus>, LogFailure> Consensus::start(ConsensusOptions options, StateMachine& machine) {
  auto impl = std::make_unique<Impl>(std::move(options), machine);
  std::promise<bool> started;
  auto opened = started.get_future();
  impl->thread = std::thread([&, self = impl.get()] { self->run(started); });
  if (!opened.get()) {
    impl->thread.join();
    return tl::unexpected<LogFailure>(impl->failure);
  }
  return std::unique_ptr<Consensus>(new Consensus(std::move(impl)));
}

Consensus::~Consensus() {
  impl_->post([self = impl_.get()] {
    self->run_tasks();  // what was asked before is answered
    self->begin_stop();
  });
  impl_->thread.join();
}

template <class Request, class Call>
void Consensus::Impl::request(Done done, Call call) {
  auto shared = std::make_shared<Done>(std::move(done));
  const bool posted = post([this, shared, call] {
    auto pending = std::make_unique<Pending<Request>>();
    pending->done = std::move(*shared);
    pending->request.data = pending.get();
    const int failed = stopping ? static_cast<int>(RAFT_SHUTDOWN) : call(&pending->request);
    if (failed) {
      pending->done(failed == RAFT_SHUTDOWN ? Outcome::kNotLeading : outcome_of(failed));
      return;
    }
    static_cast<void>(pending.release());  // its callback has it
  });
  if (!posted) (*shared)(Outcome::kNotLeading);
}

int Consensus::Impl::append(std::string_view command, Apply* request) {
  raft_buffer buffer = encode_command(command);
  if (!buffer.base) return RAFT_NOMEM;
  const int failed = ::raft_apply(&raft, request, &buffer, 1, [](Apply* finished, int status, void*) {
    const std::unique_ptr<Pending<Apply>> pending(static_cast<Pending<Apply>*>(finished->data));
    pending->done(outcome_of(status));
  });
  // Refused before it was written: the buffer is still ours. After a failed write libraft has freed it already.
  if (failed == RAFT_NOTLEADER || failed == RAFT_NOSPACE || failed == RAFT_BUSY) raft_free(buffer.base);
  return failed;
}

// The empty entry that a leader begins with (Raft dissertation, 6.4). libraft writes one only where the leader's own log is longer
// than what is known to be committed. Otherwise what a former leader alone had written would stay in that one's log until the
// next command, and nobody could tell that it has caught up.
void Consensus::Impl::begin_term() {
  begun_term = raft.current_term;
  const auto done = [this](Outcome outcome) {
    if (outcome != Outcome::kCommitted) begun_term = 0;  // again at the next tick, if it still leads
  };
  request<Apply>(done, [this](Apply* request) { return append({}, request); });
}

void Consensus::propose(std::string command, Done done) {
  impl_->request<Apply>(std::move(done), [impl = impl_.get(), command = std::move(command)](Apply* request) { return impl->append(command, request); });
}

static void change_done(raft_change* finished, int status) {
  const std::unique_ptr<Pending<raft_change>> pending(static_cast<Pending<raft_change>*>(finished->data));
  pending->done(outcome_of(status));
}

void Consensus::add(uint64_t voter, Done done) {
  impl_->request<raft_change>(std::move(done), [impl = impl_.get(), voter](raft_change* request) {
    return raft_add(&impl->raft, request, voter, address_of(voter).c_str(), change_done);
  });
}

void Consensus::assign(uint64_t voter, MemberRole role, Done done) {
  impl_->request<raft_change>(std::move(done), [impl = impl_.get(), voter, role](raft_change* request) {
    const int to = role == MemberRole::kVoter ? RAFT_VOTER : role == MemberRole::kStandby ? RAFT_STANDBY : RAFT_SPARE;
    return raft_assign(&impl->raft, request, voter, to, change_done);
  });
}

void Consensus::remove(uint64_t voter, Done done) {
  impl_->request<raft_change>(std::move(done), [impl = impl_.get(), voter](raft_change* request) {
    return raft_remove(&impl->raft, request, voter, change_done);
  });
}

void Consensus::transfer(uint64_t voter) {
  impl_->post([impl = impl_.get(), voter] {
    auto request = std::make_unique<Transfer>();
    const auto done = [](Transfer* finished) { delete finished; };
    if (::raft_transfer(&impl->raft, request.get(), voter, done) == 0) static_cast<void>(request.release());
  });
}

ConsensusStatus Consensus::status() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->status;
}

}  // namespace voldfs::mgmt
