#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "mgmt/cluster_state.h"
#include "mgmt/consensus.h"
#include "mgmt/http.h"
#include "mgmt/identity.h"

namespace voldfs::mgmt {

struct NodeOptions {
  std::string state_dir = "/var/lib/voldfs";
  std::string conf_dir = "/etc/voldfs";
  std::string run_dir = "/run/voldfs";
  std::string name;                 // HOST in HOST:/PATH
  std::string address;              // where peers and clients reach this node; a literal
  uint16_t api_port = 24107;
  uint16_t raft_port = 24106;
  uint16_t brick_port_first = 24200;
  uint16_t map_port = 24108;        // where bricks of this node answer with their maps; 0: nowhere
  uint32_t election_ms = 1000;
  uint32_t voter_lost_ms = 600'000; // after how long a silent voter's place goes to a stand-by
};

// How much the answer of a read is worth.
struct Knowledge {
  bool led = false;     // a majority is in contact with a leader that this node follows, and its log has been read to the end
  int64_t age_ms = 0;   // since that was so last; -1: not since this daemon started
};

// One node of the cluster: its identity, its copy of the state, its part in the log. Any thread.
class Node : private StateMachine {
 public:
  static Explained<std::unique_ptr<Node>> start(NodeOptions options);
  ~Node() override;

  const NodeOptions& options() const { return options_; }
  std::shared_ptr<const ClusterState> state() const;
  Knowledge knowledge() const;
  Identity identity() const;
  ConsensusStatus log_status() const;
  HttpServer::Credentials credentials() const;
  std::string secret() const;  // the cluster's
  bool leading() const;
  bool votes() const;      // the log has taken it in as a voter

  // Commits one command of the state machine (cluster_state.h), here or at the leader, and returns its result. Without a
  // majority it is refused at once, with the missing peers; its outcome is in doubt only if the error says so.
  Json commit(Json command);
  // What the leader does with a command that another node passes on.
  Json commit_here(Json command);

  // peer probe: takes the node at address:port into this cluster. `token` is the other's, or empty if both have the same
  // secret already. `replace`: it takes the place, the id and the bricks of this peer, which is lost.
  struct Probe {
    std::string address;
    uint16_t port = 0;
    std::string token, replace;
    bool witness = false;
  };
  Explained<Json> probe(const Probe& probe);
  // The other side of a probe. REQUIRES: who asks has proved to know this node's secret.
  Explained<Json> answer_probe(const Json& body);
  // A peer that lost its memory asks for a new voter number.
  Explained<Json> renew_peer(const Json& request);
  // peer recover: goes on without the peers named, whose votes are lost for good. This node alone votes at first; voters that are
  // not lost get their votes back from it.
  Explained<Json> recover(const std::vector<std::string>& lost);

  // The whole state, secrets of volumes included, as a document to be kept elsewhere. What the leader had agreed on when it
  // was asked is in it, if a leader can be asked.
  Json backup();
  // Goes back to a backup. In the cluster that it is of: for all nodes, the peers staying as they are. On a node that is a
  // cluster of its own without volumes: the cluster begins anew there, this node as its peer `as` (empty: the one of its id
  // or name); the other nodes come back by themselves, or by a probe in their place. A new incarnation of every map.
  Explained<Json> restore_backup(const Json& document, const std::string& as);

  // One request to a peer.
  Explained<Json> call_peer(const Peer& peer, const std::string& method, const std::string& path, const Json& body, int timeout_ms) const;
  std::vector<std::string> unreachable_peers() const;
  // Waits, for a few seconds, until every peer shows at least this version of the state. The names of those that do not.
  // `moving`, if not null, is asked at the address that stands there.
  std::vector<std::string> await_peers(uint64_t version, const Peer* moving) const;

  // Called after every change of the state, on the log's thread: only to wake somebody. Null: no more, from the return on.
  void on_change(std::function<void()> changed);
  // Called with what has happened to the state or the log, {type, data}; as on_change().
  using Told = std::function<void(const std::string& type, Json data, bool of_the_state)>;
  void on_event(Told told);

 private:
  explicit Node(NodeOptions options) : options_(std::move(options)) {}

  void apply(uint64_t index, std::string_view command) override;
  void caught_up() override;
  std::string snapshot() override;
  Explained<void> restore(std::string_view snapshot) override;
  void publish();
  void tell(const std::string& type, Json data, bool of_the_state);

  Explained<void> check_left(const Peer& peer, bool lost) const;
  Explained<Json> plan_probe(const Probe& probe, Peer& peer) const;
  Explained<Json> restore_here(const ClusterState& backup);
  Explained<Json> restore_anew(ClusterState backup, const std::string& as);
  Explained<void> open();
  Explained<void> open_log(bool recover = false);
  Explained<void> begin_again(const std::string& why);
  Explained<void> set_log_aside(const char* suffix);
  ConsensusOptions log_options(const Identity& identity) const;
  Explained<void> save(const Identity& identity);
  Explained<void> save_secret(const std::string& secret);
  void take_secret(const std::string& secret);  // REQUIRES: mutex_ is held
  std::shared_ptr<const Tls> tls_of(const std::string& secret) const;
  std::string log_dir() const { return options_.state_dir + "/log"; }
  Peer self(const Identity& identity) const;
  std::shared_ptr<Consensus> log() const;
  Explained<void> close_log();
  std::optional<Endpoint> resolve(uint64_t voter) const;
  Peer contact(uint64_t voter) const;

  void drive();                 // the driver's thread
  void drive_members(const ConsensusStatus& status);
  void ask_for_renewal();
  void note_membership();
  bool log_touched() const;

  const NodeOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;              // with mutex_
  Identity identity_;                         // guarded by mutex_
  std::string secret_;                        // guarded by mutex_
  std::shared_ptr<const Tls> tls_;            // guarded by mutex_; made of secret_
  std::shared_ptr<const ClusterState> state_ = std::make_shared<ClusterState>();  // guarded by mutex_
  std::shared_ptr<Consensus> log_;            // guarded by mutex_; null while it is being changed
  std::function<void()> changed_;             // guarded by mutex_
  Told told_;                                 // guarded by mutex_
  // What the log has made so far; the log's thread alone, or change_log_ while there is no log. While a log is read again
  // from its beginning, this is the past, and state_ is what was known when the daemon ended.
  ClusterState machine_;
  int64_t behind_since_ms_ = 0;               // as machine_: since when it has caught up with less than was known
  std::atomic<bool> live_{false};             // it has caught up once, and is published from then on; written as machine_
  std::atomic<bool> log_is_read_{false};      // machine_ has been all that the log holds, since it was opened
  std::atomic<bool> log_is_blank_{true};      // machine_ has no cluster yet; of a log that is read, there is none in it
  bool stopping_ = false;                     // guarded by mutex_
  std::mutex calling_;                        // held while changed_ or told_ runs; before mutex_
  std::mutex change_log_;                     // one at a time opens or closes the log; before mutex_
  std::atomic<ino_t> log_inode_{0};           // written under change_log_
  std::thread driver_;
};

// A command with a new id.
Json new_command(const std::string& op, Json fields = Json::object());

}  // namespace voldfs::mgmt
