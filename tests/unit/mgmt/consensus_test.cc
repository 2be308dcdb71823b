#include "mgmt/consensus.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <fstream>
#include <mutex>
#include <thread>

#include "brick/base/unique_fd.h"
#include "tests/lib/loopback.h"

namespace voldfs::mgmt {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

// A list of what was applied.
class ListMachine : public StateMachine {
 public:
  void apply(uint64_t index, std::string_view command) override {
    const std::lock_guard lock(mutex_);
    index_ = index;
    list_ += std::string(command) + ";";
  }
  void caught_up() override { caught_up_ = true; }
  bool is_caught_up() const { return caught_up_; }
  uint64_t index() const { return index_; }
  std::string snapshot() override { return list(); }
  Explained<void> restore(std::string_view snapshot) override {
    const std::lock_guard lock(mutex_);
    list_ = snapshot;
    return {};
  }
  std::string list() const {
    const std::lock_guard lock(mutex_);
    return list_;
  }

 private:
  std::atomic<bool> caught_up_ = false;
  std::atomic<uint64_t> index_ = 0;
  mutable std::mutex mutex_;
  std::string list_;
};

template <class Condition>
bool eventually(Condition condition, std::chrono::seconds deadline = 20s) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(10ms);
  }
  return true;
}

class ConsensusFaultTest : public testing::Test {
 protected:
  ConsensusFaultTest() {
    std::string pattern = (fs::temp_directory_path() / "voldfs-consensus-XXXXXX").string();
    top_ = ::mkdtemp(pattern.data());
    for (size_t i = 0; i < 3; ++i) {
      nodes_[i].voter = 11 + i;
      nodes_[i].port = test::bind_loopback().port;
      fs::create_directories(log(i));
    }
  }
  ~ConsensusFaultTest() override {
    for (Node& node : nodes_) node.log.reset();
    fs::remove_all(top_);
  }

  struct Node {
    uint64_t voter = 0;
    uint16_t port = 0;
    std::unique_ptr<ListMachine> machine;
    std::unique_ptr<Consensus> log;
  };

  std::string log(size_t i) const { return top_ + "/" + std::to_string(i) + "/log"; }
  std::string memory(size_t i) const { return top_ + "/" + std::to_string(i) + "/memory"; }

  ConsensusOptions options(size_t i, bool bootstrap) {
    ConsensusOptions options;
    options.directory = log(i);
    options.memory_path = memory(i);
    options.cluster = Id::from_bytes("0123456789abcdef");
    options.tls = tls_;
    options.voter = nodes_[i].voter;
    options.listen = {"127.0.0.1", nodes_[i].port};
    options.bootstrap = bootstrap;
    options.must_exist = !bootstrap;
    options.election_ms = 300;
    options.heartbeat_ms = 50;
    options.resolve = [this](uint64_t voter) -> std::optional<Endpoint> {
      for (const Node& node : nodes_) {
        if (node.voter == voter) return Endpoint{"127.0.0.1", node.port};
      }
      return std::nullopt;
    };
    options.refuse = [this](uint64_t voter) { return voter == refused_; };
    options.cut_off = [this, i](uint64_t, bool) { return silent_ == i; };
    return options;
  }

  LogFailure start(size_t i, ConsensusOptions options) {
    nodes_[i].machine = std::make_unique<ListMachine>();
    auto started = Consensus::start(std::move(options), *nodes_[i].machine);
    if (!started) return started.error();
    nodes_[i].log = std::move(*started);
    return {};
  }

  void start_three() {
    ASSERT_EQ(start(0, options(0, true)).sentence, "");
    ASSERT_TRUE(eventually([&] { return nodes_[0].log->status().leading; }));
    for (size_t i : {1, 2}) {
      auto joining = options(i, false);
      joining.must_exist = false;
      ASSERT_EQ(start(i, joining).sentence, "");
      ASSERT_EQ(call([&](auto done) { nodes_[0].log->add(nodes_[i].voter, done); }), Outcome::kCommitted);
      ASSERT_EQ(call([&](auto done) { nodes_[0].log->assign(nodes_[i].voter, MemberRole::kVoter, done); }), Outcome::kCommitted);
    }
  }

  template <class Call>
  static Outcome call(Call call) {
    auto result = std::make_shared<std::promise<Outcome>>();
    auto future = result->get_future();
    call([result](Outcome outcome) { result->set_value(outcome); });
    return future.wait_for(20s) == std::future_status::ready ? future.get() : Outcome::kUnknown;
  }
  Outcome propose(size_t i, const std::string& text) {
    return call([&](auto done) { nodes_[i].log->propose(text, done); });
  }
  int leader() const {
    for (size_t i = 0; i < 3; ++i) {
      if (nodes_[i].log && nodes_[i].log->status().leading) return static_cast<int>(i);
    }
    return -1;
  }

  std::string top_;
  const std::shared_ptr<const Tls> tls_ = std::make_shared<const Tls>(std::string(32, 's'), "node", "127.0.0.1");
  std::atomic<uint64_t> refused_ = 0;
  std::atomic<size_t> silent_ = SIZE_MAX;  // the node of which no message reaches another
  Node nodes_[3];
};

TEST_F(ConsensusFaultTest, One_Restarted_HasEverything) {
  ASSERT_EQ(start(0, options(0, true)).sentence, "");
  ASSERT_TRUE(eventually([&] { return nodes_[0].log->status().leading; }));
  EXPECT_EQ(propose(0, "a"), Outcome::kCommitted);
  EXPECT_EQ(propose(0, "b"), Outcome::kCommitted);
  EXPECT_EQ(nodes_[0].machine->list(), "a;b;");
  nodes_[0].log.reset();
  ASSERT_EQ(start(0, options(0, false)).sentence, "");
  EXPECT_TRUE(eventually([&] { return nodes_[0].machine->list() == "a;b;"; }));
}

TEST_F(ConsensusFaultTest, One_ManyCommandsAndSnapshots_RestartsWithAll) {
  ASSERT_EQ(start(0, options(0, true)).sentence, "");
  ASSERT_TRUE(eventually([&] { return nodes_[0].log->status().leading; }));
  std::atomic<int> done = 0;
  for (int i = 0; i < 2500; ++i) {
    nodes_[0].log->propose("x", [&](Outcome outcome) { done += outcome == Outcome::kCommitted; });
    if (i % 100 == 99) {
      ASSERT_TRUE(eventually([&] { return done == i + 1; }));
    }
  }
  nodes_[0].log.reset();
  ASSERT_EQ(start(0, options(0, false)).sentence, "");
  EXPECT_TRUE(eventually([&] { return nodes_[0].machine->list().size() == 5000; }));
}

TEST_F(ConsensusFaultTest, Three_LeaderStops_AnotherLeadsAndItCatchesUp) {
  ASSERT_NO_FATAL_FAILURE(start_three());
  EXPECT_EQ(propose(0, "a"), Outcome::kCommitted);
  EXPECT_EQ(propose(1, "refused"), Outcome::kNotLeading);
  nodes_[0].log.reset();
  ASSERT_TRUE(eventually([&] { return leader() > 0; }));
  EXPECT_EQ(propose(static_cast<size_t>(leader()), "b"), Outcome::kCommitted);
  ASSERT_EQ(start(0, options(0, false)).sentence, "");
  EXPECT_TRUE(eventually([&] { return nodes_[0].machine->list() == "a;b;"; }));
}

// What the leader alone has written is nobody's when another leads, also if that one has nothing new to tell.
TEST_F(ConsensusFaultTest, Three_LeaderStopsWithAnEntryOfItsOwn_CatchesUpWithoutAnother) {
  ASSERT_NO_FATAL_FAILURE(start_three());
  ASSERT_EQ(propose(0, "a"), Outcome::kCommitted);
  const uint64_t common = nodes_[0].machine->index();
  for (const Node& node : nodes_) ASSERT_TRUE(eventually([&] { return node.log->status().applied == common; }));
  silent_ = 0;
  nodes_[0].log->propose("lost", [](Outcome outcome) { EXPECT_EQ(outcome, Outcome::kUnknown); });
  ASSERT_TRUE(eventually([&] { return nodes_[0].log->status().last_index == common + 1; }));
  nodes_[0].log.reset();
  ASSERT_TRUE(eventually([&] { return leader() > 0; }));
  silent_ = SIZE_MAX;
  ASSERT_EQ(start(0, options(0, false)).sentence, "");
  EXPECT_TRUE(eventually([&] { return nodes_[0].machine->is_caught_up(); })) << "applied " << nodes_[0].log->status().applied << " of " << nodes_[0].log->status().last_index;
  EXPECT_EQ(nodes_[0].machine->list(), "a;");
}

TEST_F(ConsensusFaultTest, Three_MajorityGone_NobodyLeadsAndNothingHangs) {
  ASSERT_NO_FATAL_FAILURE(start_three());
  nodes_[1].log.reset();
  nodes_[2].log.reset();
  EXPECT_TRUE(eventually([&] { return nodes_[0].log->status().leader == 0; }));
  EXPECT_EQ(propose(0, "x"), Outcome::kNotLeading);
  EXPECT_GT(nodes_[0].log->status().led_until_ms, 0);
}

TEST_F(ConsensusFaultTest, Start_LogLost_IsForgotten) {
  ASSERT_NO_FATAL_FAILURE(start_three());
  nodes_[2].log.reset();
  fs::remove_all(log(2));
  fs::create_directories(log(2));
  EXPECT_TRUE(start(2, options(2, false)).forgotten);
  // Also with the second copy gone: this voter had a log.
  fs::remove(memory(2));
  EXPECT_TRUE(start(2, options(2, false)).forgotten);
}

TEST_F(ConsensusFaultTest, Start_LogIsAnOldCopy_IsForgotten) {
  ASSERT_NO_FATAL_FAILURE(start_three());
  nodes_[2].log.reset();
  fs::copy(log(2), log(2) + ".old", fs::copy_options::recursive);
  ASSERT_EQ(start(2, options(2, false)).sentence, "");
  ASSERT_EQ(propose(0, "a"), Outcome::kCommitted);
  ASSERT_TRUE(eventually([&] { return nodes_[2].machine->list() == "a;"; }));
  nodes_[2].log.reset();
  fs::remove_all(log(2));
  fs::rename(log(2) + ".old", log(2));
  EXPECT_TRUE(start(2, options(2, false)).forgotten);
}

TEST_F(ConsensusFaultTest, Start_DamagedSegment_IsForgottenAndNamed) {
  ASSERT_EQ(start(0, options(0, true)).sentence, "");
  ASSERT_TRUE(eventually([&] { return nodes_[0].log->status().leading; }));
  for (int i = 0; i < 20; ++i) ASSERT_EQ(propose(0, std::string(200, 'a')), Outcome::kCommitted);
  nodes_[0].log.reset();
  for (const auto& file : fs::directory_iterator(log(0))) {
    if (file.path().filename().string().starts_with("metadata") || file.file_size() < 3000) continue;
    std::fstream stream(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(2000);
    stream << "damage";
  }
  const LogFailure failure = start(0, options(0, false));
  EXPECT_TRUE(failure.forgotten);
  EXPECT_NE(failure.sentence, "");
}

// A byte of its content, which leaves it readable.
TEST_F(ConsensusFaultTest, Start_DamagedSnapshot_IsForgottenAndNamed) {
  ASSERT_EQ(start(0, options(0, true)).sentence, "");
  ASSERT_TRUE(eventually([&] { return nodes_[0].log->status().leading; }));
  const auto snapshots = [&] {
    std::vector<fs::path> found;
    for (const auto& file : fs::directory_iterator(log(0))) {
      const std::string name = file.path().filename();
      if (name.starts_with("snapshot-") && !name.ends_with(".meta") && fs::exists(file.path().string() + ".meta")) found.push_back(file.path());
    }
    return found;
  };
  std::atomic<int> done = 0;
  for (int i = 0; i < 1100; ++i) {
    nodes_[0].log->propose("x", [&](Outcome outcome) { done += outcome == Outcome::kCommitted; });
    if (i % 100 == 99) {
      ASSERT_TRUE(eventually([&] { return done == i + 1; }));
    }
  }
  ASSERT_TRUE(eventually([&] { return !snapshots().empty(); }));
  nodes_[0].log.reset();
  for (const fs::path& snapshot : snapshots()) {
    std::fstream stream(snapshot, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(100);
    stream << "y";
  }
  const LogFailure failure = start(0, options(0, false));
  EXPECT_TRUE(failure.forgotten);
  EXPECT_NE(failure.sentence.find("The snapshot in " + log(0)), std::string::npos) << failure.sentence;
}

TEST_F(ConsensusFaultTest, Join_WrongSecretOrRefusedVoter_NeverGetsTheLog) {
  ASSERT_EQ(start(0, options(0, true)).sentence, "");
  ASSERT_TRUE(eventually([&] { return nodes_[0].log->status().leading; }));
  ASSERT_EQ(propose(0, "a"), Outcome::kCommitted);
  auto stranger = options(1, false);
  stranger.must_exist = false;
  stranger.tls = std::make_shared<const Tls>(std::string(32, 'x'), "node", "127.0.0.1");
  ASSERT_EQ(start(1, stranger).sentence, "");
  ASSERT_EQ(call([&](auto done) { nodes_[0].log->add(nodes_[1].voter, done); }), Outcome::kCommitted);
  nodes_[0].log->assign(nodes_[1].voter, MemberRole::kStandby, [](Outcome) {});
  // Three times the time in which an honest node catches up.
  std::this_thread::sleep_for(1s);
  EXPECT_EQ(nodes_[1].machine->list(), "");
}

TEST_F(ConsensusFaultTest, Listen_GarbageFromStrangers_IsHungUpOn) {
  ASSERT_EQ(start(0, options(0, true)).sentence, "");
  for (int i = 0; i < 200; ++i) {
    const unique_fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(nodes_[0].port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const std::string garbage(static_cast<size_t>(i), 'V');
    ::send(fd.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
    if (i < 56) continue;
    char byte;
    EXPECT_LE(::recv(fd.get(), &byte, 1, 0), 0);
  }
  ASSERT_TRUE(eventually([&] { return nodes_[0].log->status().leading; }));
  EXPECT_EQ(propose(0, "a"), Outcome::kCommitted);
}

TEST_F(ConsensusFaultTest, Listen_AddressInUse_SaysSo) {
  ASSERT_EQ(start(0, options(0, true)).sentence, "");
  auto second = options(1, true);
  second.listen = {"127.0.0.1", nodes_[0].port};
  const LogFailure failure = start(1, second);
  EXPECT_FALSE(failure.forgotten);
  EXPECT_NE(failure.sentence.find("another"), std::string::npos) << failure.sentence;
}

}  // namespace
}  // namespace voldfs::mgmt
