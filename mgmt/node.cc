#include "mgmt/node.h"

#include <spdlog/spdlog.h>
#include <malloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <future>

#include "brick/base/clock.h"
#include "mgmt/events.h"
#include "mgmt/fault_point.h"
#include "mgmt/files.h"
#include "mgmt/secret.h"

// The node's life with its log: opening it, losing it, changing its members. Commands and peers: node_commands.cc.
//
// Happy path: open() -> open_log() -> the log's thread applies entries -> state() changes. The driver, a thread that wakes
// a few times a second, makes the members of the log those of the state (leader alone), and finds out that the log's
// directory has been touched.
// Losing the log: open_log() learns of it from Consensus (forgotten), or the driver sees it; begin_again() takes a new voter
// number, which has promised nothing, and either waits for the cluster to accept it, or, for a cluster of one, begins a
// new log with the state that is known.

namespace voldfs::mgmt {

namespace fs = std::filesystem;

namespace {

constexpr auto kDrivePeriod = std::chrono::milliseconds(200);
constexpr auto kReadyTimeout = std::chrono::seconds(10);
constexpr int kPeerTimeoutMs = 700;

}  // namespace

Json new_command(const std::string& op, Json fields) {
  fields["id"] = Id::random().uuid();
  fields["op"] = op;
  return fields;
}

Explained<std::unique_ptr<Node>> Node::start(NodeOptions options) {
  std::unique_ptr<Node> node(new Node(std::move(options)));
  if (auto opened = node->open(); !opened) return explain(opened.error());
  node->driver_ = std::thread([self = node.get()] { self->drive(); });
  // A cluster of one is ready when its daemon is.
  if (node->log_status().members.size() == 1) {
    std::unique_lock lock(node->mutex_);
    node->wake_.wait_for(lock, kReadyTimeout, [&] { return node->live_ && !node->state_->cluster.is_none(); });
  }
  return node;
}

Node::~Node() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_ = nullptr;
    told_ = nullptr;
  }
  wake_.notify_all();
  if (driver_.joinable()) driver_.join();
  static_cast<void>(close_log());
}

Explained<void> Node::open() {
  for (const std::string& directory : {options_.state_dir, options_.conf_dir, options_.run_dir}) {
    const mode_t mode = directory == options_.state_dir ? 0700 : 0755;
    if (auto made = make_directories(directory, mode); !made) return made;
  }
  auto secret = load_or_make_secret(options_.conf_dir + "/secret");
  if (!secret) return explain(secret.error());
  auto identity = load_or_make_identity(options_.conf_dir + "/node.json", options_.state_dir + "/node.json", options_.name);
  if (!identity) return explain(identity.error());
  {
    const std::lock_guard lock(mutex_);
    take_secret(*secret);
    identity_ = *identity;
    // What is known before the log says more; every read is answered from the first moment.
    if (const auto document = read_document(options_.state_dir + "/state.json")) {
      if (auto known = ClusterState::from_json(document->value("state", Json())); known && known->cluster == identity->cluster)
        state_ = std::make_shared<const ClusterState>(std::move(*known));
    }
  }
  const std::lock_guard change(change_log_);
  return open_log();
}

ConsensusOptions Node::log_options(const Identity& identity) const {
  ConsensusOptions options;
  options.directory = log_dir();
  options.memory_path = options_.conf_dir + "/voter.json";
  options.cluster = identity.cluster;
  options.tls = tls_;
  options.voter = identity.voter;
  options.listen = {options_.address, options_.raft_port};
  options.bootstrap = identity.standing == Identity::Standing::kNew;
  options.must_exist = identity.standing == Identity::Standing::kMember;
  options.election_ms = options_.election_ms;
  // A follower learns with the next heartbeat or the one after it that an entry is agreed on: who asked it waits for that.
  options.heartbeat_ms = std::max(20u, options_.election_ms / 30);
  options.resolve = [this](uint64_t voter) { return resolve(voter); };
  options.refuse = [this](uint64_t voter) { return state()->retired.contains(voter); };
  options.cut_off = [this](uint64_t voter, bool entries) {
    const auto endpoint = resolve(voter);
    return endpoint && (cut_off(endpoint->address) || (entries && entries_cut_off(endpoint->address)));
  };
  return options;
}

// REQUIRES: change_log_ is held, and no log is open.
Explained<void> Node::open_log(bool recover) {
  ConsensusOptions options;
  {
    const std::lock_guard lock(mutex_);
    options = log_options(identity_);
  }
  options.recover = recover;
  if (options.bootstrap) {
    // Cut off before: nobody has been promised anything by a log that nobody has heard of.
    if (auto gone = set_log_aside("unfinished"); !gone) return gone;
  }
  if (auto made = make_directories(log_dir(), 0700); !made) return made;
  machine_ = ClusterState();
  live_ = false;
  log_is_read_ = false;
  log_is_blank_ = true;
  auto opened = Consensus::start(options, *this);
  if (!opened && opened.error().forgotten) return begin_again(opened.error().sentence);
  if (!opened) return explain(opened.error().sentence);
  struct stat st{};
  log_inode_ = ::stat(log_dir().c_str(), &st) == 0 ? st.st_ino : 0;
  Identity identity;
  {
    const std::lock_guard lock(mutex_);
    log_ = std::move(*opened);
    if (identity_.standing == Identity::Standing::kNew) identity_.standing = Identity::Standing::kMember;
    identity = identity_;
  }
  return save(identity);
}

// The log is lost or damaged. REQUIRES: change_log_ is held, and no log is open.
Explained<void> Node::begin_again(const std::string& why) {
  if (auto aside = set_log_aside("lost"); !aside) return aside;
  Identity identity;
  {
    const std::lock_guard lock(mutex_);
    const ClusterState& known = *state_;
    size_t others = 0;
    for (const auto& [id, peer] : known.peers) others += id != identity_.node && !known.retired.contains(peer.voter);
    for (const auto& [voter, endpoint] : identity_.contacts) others += voter != identity_.voter && !known.retired.contains(voter);
    identity_.voter = random_voter();
    identity_.standing = others == 0 ? Identity::Standing::kNew : Identity::Standing::kJoining;
    identity = identity_;
  }
  spdlog::warn("log lost reason=\"{}\" voter={} next={}", why, identity.voter,
               identity.standing == Identity::Standing::kNew ? "begins a new log from the last known state" : "waits for its peers");
  if (auto saved = save(identity); !saved) return saved;
  tell("log.lost", {{"reason", why}}, false);
  return open_log();
}

// Kept, for a human to look at; one of each kind.
Explained<void> Node::set_log_aside(const char* suffix) {
  std::error_code error;
  const std::string aside = log_dir() + "." + suffix;
  fs::remove_all(aside, error);
  if (fs::exists(log_dir(), error)) fs::rename(log_dir(), aside, error);
  if (error) return explain("Could not move " + log_dir() + " to " + aside + ": " + error.message() + ".");
  return {};
}

Explained<void> Node::save(const Identity& identity) {
  return save_identity(identity, options_.conf_dir + "/node.json", options_.state_dir + "/node.json");
}

Explained<void> Node::save_secret(const std::string& secret) {
  return write_file(options_.conf_dir + "/secret", to_hex(secret) + "\n", 0600);
}

// REQUIRES: change_log_ is held, or the driver has ended.
Explained<void> Node::close_log() {
  std::shared_ptr<Consensus> closing;
  {
    const std::lock_guard lock(mutex_);
    closing.swap(log_);
  }
  // Whoever holds it still waits for an answer at most.
  while (closing && closing.use_count() > 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return {};
}

std::shared_ptr<Consensus> Node::log() const {
  const std::lock_guard lock(mutex_);
  return log_;
}

std::shared_ptr<const ClusterState> Node::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

Identity Node::identity() const {
  const std::lock_guard lock(mutex_);
  return identity_;
}

HttpServer::Credentials Node::credentials() const {
  const std::lock_guard lock(mutex_);
  return {tls_, api_token(secret_)};
}

std::string Node::secret() const {
  const std::lock_guard lock(mutex_);
  return secret_;
}

std::shared_ptr<const Tls> Node::tls_of(const std::string& secret) const { return std::make_shared<const Tls>(secret, options_.name, options_.address); }

void Node::take_secret(const std::string& secret) {
  secret_ = secret;
  tls_ = tls_of(secret);
}

ConsensusStatus Node::log_status() const {
  const auto running = log();
  return running ? running->status() : ConsensusStatus{};
}

bool Node::leading() const { return log_status().leading; }

bool Node::votes() const {
  const uint64_t mine = identity().voter;
  const ConsensusStatus status = log_status();
  return std::any_of(status.members.begin(), status.members.end(), [&](const Member& member) { return member.voter == mine && member.role == MemberRole::kVoter; });
}

Knowledge Node::knowledge() const {
  const ConsensusStatus status = log_status();
  if (status.leader != 0 && live_) return {true, 0};
  return {false, status.led_until_ms == 0 ? -1 : boottime_ms() - status.led_until_ms};
}

void Node::on_change(std::function<void()> changed) {
  const std::lock_guard calling(calling_);
  const std::lock_guard lock(mutex_);
  changed_ = std::move(changed);
}

// The log's thread.

void Node::apply(uint64_t, std::string_view text) {
  const Json command = Json::parse(text, nullptr, false);
  const auto before = state();  // as machine_ is, once it is live
  const uint64_t version = machine_.version;
  fault_point(live_ ? "apply.begin" : "replay.begin");
  const Json result = machine_.apply(command);
  log_is_blank_ = machine_.cluster.is_none();
  if (!live_) return;
  publish();
  fault_point("apply.published");
  if (machine_.version == version) return;  // refused, or done before
  if (const Json event = event_of(*before, command, result); !event.is_null()) tell(event.at("type"), event.at("data"), true);
}

// A log that begins anew comes in parts, and each looks whole. What this node knew before it tells how much there is to come; unless
// the cluster has been taken back to an earlier state.
void Node::caught_up() {
  log_is_read_ = true;
  if (live_) return;
  constexpr int64_t kEarlierStateMs = 10'000;
  if (behind_since_ms_ == 0) behind_since_ms_ = boottime_ms();
  if (machine_.version < state()->version && boottime_ms() < behind_since_ms_ + kEarlierStateMs) return;
  publish();
  {
    const std::lock_guard lock(mutex_);
    live_ = true;  // only now: what is shown as current is
  }
  wake_.notify_all();
  ::malloc_trim(0);  // the documents that the state was made from are several times its size
}

std::string Node::snapshot() { return machine_.snapshot(); }

Explained<void> Node::restore(std::string_view snapshot) {
  auto restored = ClusterState::restore(snapshot);
  if (!restored) return explain(restored.error());
  machine_ = std::move(*restored);
  log_is_blank_ = machine_.cluster.is_none();
  if (live_) publish();
  if (live_) tell("cluster.caught-up", {{"version", machine_.version}}, false);
  return {};
}

void Node::on_event(Told told) {
  const std::lock_guard calling(calling_);
  const std::lock_guard lock(mutex_);
  told_ = std::move(told);
}

void Node::tell(const std::string& type, Json data, bool of_the_state) {
  const std::lock_guard calling(calling_);
  Told told;
  {
    const std::lock_guard lock(mutex_);
    told = told_;
  }
  if (told) told(type, std::move(data), of_the_state);
}

void Node::publish() {
  if (machine_.cluster.is_none()) return;  // a log that has just begun takes nothing away from what is known
  auto next = std::make_shared<const ClusterState>(machine_);
  const std::lock_guard calling(calling_);
  std::function<void()> changed;
  {
    const std::lock_guard lock(mutex_);
    state_ = std::move(next);
    changed = changed_;
  }
  wake_.notify_all();
  if (changed) changed();
}

std::optional<Endpoint> Node::resolve(uint64_t voter) const {
  const std::lock_guard lock(mutex_);
  if (const Peer* peer = state_->peer_of_voter(voter)) return Endpoint{peer->address, peer->raft_port};
  const auto contact = identity_.contacts.find(voter);
  if (contact != identity_.contacts.end()) return contact->second;
  return std::nullopt;
}

Peer Node::self(const Identity& identity) const {
  Peer peer;
  peer.id = identity.node;
  peer.name = identity.name;
  peer.address = options_.address;
  peer.api_port = options_.api_port;
  peer.raft_port = options_.raft_port;
  peer.brick_port_first = options_.brick_port_first;
  peer.voter = identity.voter;
  return peer;
}

// The driver.

void Node::drive() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, kDrivePeriod);
      if (stopping_) return;
    }
    if (log_touched()) {
      const std::lock_guard change(change_log_);
      if (!log_touched()) continue;  // it was this daemon itself
      static_cast<void>(close_log());
      if (auto begun = begin_again("its directory was touched"); !begun) spdlog::error("log not begun again reason=\"{}\"", begun.error());
      continue;
    }
    const ConsensusStatus status = log_status();
    note_membership();
    if (status.leading) drive_members(status);
    if (identity().standing == Identity::Standing::kJoining) ask_for_renewal();
  }
}

bool Node::log_touched() const {
  if (!log()) return false;
  struct stat st{};
  if (::stat(log_dir().c_str(), &st) != 0 || st.st_ino != log_inode_) return true;
  // libraft keeps two files of term and vote, of which there is at least one once it has promised anything.
  return log_status().term > 0 && ::stat((log_dir() + "/metadata1").c_str(), &st) != 0 && ::stat((log_dir() + "/metadata2").c_str(), &st) != 0;
}

// One step at a time: the log takes one change of its members at a time.
void Node::drive_members(const ConsensusStatus& status) {
  // A leader that has just been started has applied nothing yet of what its log holds, and knows the past from its files alone: it
  // would begin anew what is there, or undo what has been changed since.
  if (!log_is_read_) return;
  const auto known = state();
  const Identity me = identity();
  if (log_is_blank_) {
    const Json peer = peer_to_json(self(me));
    if (known->cluster.is_none()) {
      commit_here(new_command("cluster-init", {{"cluster", me.cluster.uuid()}, {"incarnation", me.incarnation.uuid()}, {"peer", peer}}));
    } else {
      // A new log in place of a lost one. The last entries may be missing from what is known: another incarnation.
      commit_here(new_command("cluster-replace", {{"state", known->to_json()}, {"peers", Json::array({peer})}, {"incarnation", Id::random().uuid()}, {"blank", true}}));
    }
    return;
  }
  const auto running = log();
  if (!running || !live_) return;
  const auto wait = [](auto start) {
    auto done = std::make_shared<std::promise<void>>();
    auto future = done->get_future();
    start([done](Outcome) { done->set_value(); });
    future.wait_for(std::chrono::seconds(5));
  };
  std::map<uint64_t, MemberRole> members;
  for (const Member& member : status.members) members[member.voter] = member.role;
  for (const auto& [voter, role] : members) {
    const Peer* peer = known->peer_of_voter(voter);
    if (peer && !known->retired.contains(voter)) continue;
    if (voter == me.voter) return running->transfer(0);
    return wait([&, voter = voter](auto done) { running->remove(voter, done); });
  }
  for (const auto& [id, peer] : known->peers) {
    if (known->retired.contains(peer.voter)) continue;
    const auto member = members.find(peer.voter);
    if (member == members.end()) return wait([&, voter = peer.voter](auto done) { running->add(voter, done); });
    const MemberRole role = peer.role == PeerRole::kVoter ? MemberRole::kVoter : MemberRole::kStandby;
    if (member->second == role) continue;
    if (peer.voter == me.voter) return running->transfer(0);
    return wait([&, voter = peer.voter](auto done) { running->assign(voter, role, done); });
  }
}

// Keeps the way to the peers where it survives the loss of the log.
void Node::note_membership() {
  Identity changed;
  {
    const std::lock_guard lock(mutex_);
    changed = identity_;
    const Peer* me = state_->peer(identity_.node);
    if (state_->cluster != identity_.cluster || !me || me->voter != identity_.voter) return;
    changed.standing = Identity::Standing::kMember;
    changed.incarnation = state_->incarnation;
    changed.name = me->name;
    changed.contacts.clear();
    changed.contact_api_ports.clear();
    for (const auto& [id, peer] : state_->peers) {
      if (state_->retired.contains(peer.voter)) continue;
      changed.contacts[peer.voter] = {peer.address, peer.raft_port};
      changed.contact_api_ports[peer.voter] = peer.api_port;
    }
    if (log_ && identity_.standing == Identity::Standing::kJoining && log_->status().applied == 0) return;
    identity_ = changed;
  }
  // Unchanged files are left alone; touched ones are mended.
  if (auto saved = save(changed); !saved) spdlog::warn("identity not saved reason=\"{}\"", saved.error());
}

Peer Node::contact(uint64_t voter) const {
  const std::lock_guard lock(mutex_);
  Peer peer;
  const auto endpoint = identity_.contacts.find(voter);
  const auto port = identity_.contact_api_ports.find(voter);
  if (endpoint == identity_.contacts.end() || port == identity_.contact_api_ports.end()) return peer;
  peer.address = endpoint->second.address;
  peer.api_port = port->second;
  peer.voter = voter;
  return peer;
}

// Any peer passes it on; until one can, this node waits without a vote.
void Node::ask_for_renewal() {
  const Identity me = identity();
  for (const auto& [voter, endpoint] : me.contacts) {
    const Peer peer = contact(voter);
    if (peer.api_port == 0 || (peer.address == options_.address && peer.api_port == options_.api_port)) continue;
    const auto answer = call_peer(peer, "POST", "/v1/local/renew", {{"peer", me.node.uuid()}, {"voter", me.voter}}, 12'000);
    if (answer && answer->value("ok", false)) return;
  }
}

Explained<Json> Node::call_peer(const Peer& peer, const std::string& method, const std::string& path, const Json& body, int timeout_ms) const {
  const HttpTarget target{"", peer.address, peer.api_port, credentials().tls};
  const auto reply = http_call(target, method, path, body.is_null() ? "" : body.dump(), timeout_ms);
  if (!reply) return explain(reply.error());
  Json json = Json::parse(reply->body, nullptr, false);
  if (json.is_discarded()) return explain("Peer " + peer.name + " did not answer in JSON.");
  return json;
}

std::vector<std::string> Node::unreachable_peers() const {
  const auto known = state();
  const Identity me = identity();
  std::vector<std::pair<std::string, std::future<bool>>> pings;
  for (const auto& [id, peer] : known->peers) {
    if (id == me.node || known->retired.contains(peer.voter)) continue;
    pings.emplace_back(peer.name, std::async(std::launch::async, [this, peer = peer] {
      return call_peer(peer, "GET", "/v1/local/ping", nullptr, kPeerTimeoutMs).has_value();
    }));
  }
  std::vector<std::string> missing;
  for (auto& [name, answered] : pings) {
    if (!answered.get()) missing.push_back(name);
  }
  return missing;
}

}  // namespace voldfs::mgmt
