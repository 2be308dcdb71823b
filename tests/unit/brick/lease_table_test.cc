#include "brick/server/lease_table.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "brick/base/clock.h"

namespace voldfs::server {
namespace {

constexpr uint64_t kReader = 1, kOther = 2, kWriter = 9;
const Id kFile = Id::from_bytes("fffffffffffffff1");
const Id kDir = Id::from_bytes("ddddddddddddddd1");

// Notes who was told; everyone acknowledges at once.
class Teller : public LeaseTeller {
 public:
  uint64_t tell(uint64_t session, const LeaseItem& item, uint64_t sequence) override {
    told.push_back({session, item, sequence});
    if (on_tell) on_tell();
    return told.size();
  }
  bool await(uint64_t, uint64_t, int64_t deadline) override {
    last_deadline = deadline;
    return acknowledge;
  }
  struct Told {
    uint64_t session;
    LeaseItem item;
    uint64_t sequence;
  };
  std::vector<Told> told;
  std::function<void()> on_tell;
  int64_t last_deadline = 0;
  bool acknowledge = true;
};

class LeaseTableTest : public testing::Test {
 protected:
  uint32_t grant(uint64_t session, const Id& id, uint8_t what = kLeaseAttr) {
    return table.grant(session, table.now(), std::array{LeaseItem{id, what}}, false);
  }
  void change(uint64_t session, const Id& id, uint8_t what = kLeaseAttr) {
    table.changed(session, std::array{LeaseItem{id, what}});
  }
  Teller teller;
  LeaseTable table{10'000, teller};
};

TEST_F(LeaseTableTest, Changed_HeldByOthers_TellsThemOnce) {
  EXPECT_EQ(grant(kReader, kFile), 10'000u);
  EXPECT_EQ(grant(kOther, kFile), 10'000u);
  change(kWriter, kFile);
  ASSERT_EQ(teller.told.size(), 2u);
  change(kWriter, kFile);
  EXPECT_EQ(teller.told.size(), 2u);
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(LeaseTableTest, Changed_HeldByTheChanger_TellsNobody) {
  grant(kWriter, kFile);
  change(kWriter, kFile);
  EXPECT_TRUE(teller.told.empty());
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(LeaseTableTest, Changed_OtherKindHeld_KeepsIt) {
  grant(kReader, kDir, kLeaseAttr | kLeaseEntries);
  change(kWriter, kDir, kLeaseAttr);
  ASSERT_EQ(teller.told.size(), 1u);
  EXPECT_EQ(teller.told[0].item.what, kLeaseAttr);
  change(kWriter, kDir, kLeaseEntries);
  ASSERT_EQ(teller.told.size(), 2u);
  EXPECT_EQ(teller.told[1].item.what, kLeaseEntries);
}

TEST_F(LeaseTableTest, Grant_ChangedSinceReading_IsRefused) {
  const uint64_t since = table.now();
  change(kWriter, kFile);
  EXPECT_EQ(table.grant(kReader, since, std::array{LeaseItem{kFile, kLeaseAttr}}, true), 0u);
  EXPECT_EQ(grant(kReader, kFile), 10'000u);
}

TEST_F(LeaseTableTest, Grant_ChangedByItselfSinceReading_IsGiven) {
  const uint64_t since = table.now();
  change(kReader, kFile);
  EXPECT_EQ(table.grant(kReader, since, std::array{LeaseItem{kFile, kLeaseAttr}}, true), 10'000u);
  EXPECT_EQ(table.grant(kReader, since, std::array{LeaseItem{kFile, kLeaseEntries}}, false), 10'000u);
  EXPECT_EQ(table.grant(kReader, since, std::array{LeaseItem{kFile, kLeaseAttr}}, false), 0u);
}

TEST_F(LeaseTableTest, Grant_ChangedByBothSinceReading_IsRefused) {
  const uint64_t since = table.now();
  change(kWriter, kFile);
  change(kReader, kFile);
  EXPECT_EQ(table.grant(kReader, since, std::array{LeaseItem{kFile, kLeaseAttr}}, true), 0u);
}

TEST_F(LeaseTableTest, Changed_RecallNumber_IsAboveTheGrants) {
  const uint64_t since = table.now();
  table.grant(kReader, since, std::array{LeaseItem{kFile, kLeaseAttr}}, false);
  change(kWriter, kFile);
  ASSERT_EQ(teller.told.size(), 1u);
  EXPECT_GT(teller.told[0].sequence, since);
  EXPECT_GE(table.now(), teller.told[0].sequence);
}

TEST_F(LeaseTableTest, Changed_NobodyAnswers_WaitsNoLongerThanTheLease) {
  teller.acknowledge = false;
  grant(kReader, kFile);
  change(kWriter, kFile);
  EXPECT_LE(teller.last_deadline, boottime_ms() + 10'000);
  EXPECT_EQ(table.counters().expiries, 1u);
}

TEST_F(LeaseTableTest, Forget_Session_IsNotTold) {
  grant(kReader, kFile);
  grant(kOther, kFile);
  table.forget(kReader);
  change(kWriter, kFile);
  ASSERT_EQ(teller.told.size(), 1u);
  EXPECT_EQ(teller.told[0].session, kOther);
}

TEST_F(LeaseTableTest, Sweep_EndedLeases_FreesThem) {
  LeaseTable brief(0, teller);
  for (int i = 0; i < 100; ++i) brief.grant(kReader, brief.now(), std::array{LeaseItem{Id::random(), kLeaseAttr}}, false);
  EXPECT_EQ(brief.size(), 100u);
  for (int i = 0; i < 64; ++i) brief.sweep();
  EXPECT_EQ(brief.size(), 0u);
}

// The protocol's promise: whoever was granted what was read before a change has been told of the change.
TEST_F(LeaseTableTest, GrantAndChange_Racing_NoReaderKeepsTheOldState) {
  std::atomic<uint64_t> state{0};
  struct Kept {
    uint64_t state;
    bool granted;
  };
  for (int round = 0; round < 2000; ++round) {
    const Id id = Id::random();
    Kept kept{};
    const size_t told_before = teller.told.size();
    std::thread reader([&] {
      const uint64_t since = table.now();
      kept.state = state.load();
      kept.granted = table.grant(kReader, since, std::array{LeaseItem{id, kLeaseAttr}}, false) != 0;
    });
    state.fetch_add(1);
    change(kWriter, id);
    reader.join();
    const bool told = teller.told.size() > told_before;
    const bool holds_the_old = kept.granted && kept.state != state.load();
    EXPECT_TRUE(told || !holds_the_old) << "round " << round;
  }
}

}  // namespace
}  // namespace voldfs::server
