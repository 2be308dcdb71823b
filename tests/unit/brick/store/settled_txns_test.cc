#include "brick/store/settled_txns.h"

#include <sys/stat.h>

#include <vector>

#include "tests/unit/brick/store/scratch_directory.h"

namespace voldfs::store {
namespace {

constexpr size_t kManyTxns = 4'096;

class SettledTxnsTest : public testing::Test {
 protected:
  SettledTxnsTest() { start(); }
  void start() {
    settled_.reset();
    auto opened = SettledTxns::open(dir_.fd());
    ASSERT_TRUE(opened.has_value());
    settled_ = std::move(*opened);
  }

  ScratchDirectory dir_;
  std::unique_ptr<SettledTxns> settled_;
  const Id txn_ = Id::random(), object_ = Id::random();
};

TEST_F(SettledTxnsTest, Added_IsKnownForItsObject) {
  EXPECT_FALSE(settled_->contains(txn_, object_));
  settled_->add(txn_, object_);
  EXPECT_TRUE(settled_->contains(txn_, object_));
  EXPECT_FALSE(settled_->contains(txn_, Id::random()));
  EXPECT_FALSE(settled_->contains(Id::random(), object_));
}

TEST_F(SettledTxnsTest, NoTransaction_IsNeverKnown) {
  settled_->add(Id{}, object_);
  EXPECT_FALSE(settled_->contains(Id{}, object_));
}

TEST_F(SettledTxnsTest, NextLife_KnowsIt) {
  settled_->add(txn_, object_);
  start();
  EXPECT_TRUE(settled_->contains(txn_, object_));
}

TEST_F(SettledTxnsTest, ThousandsLater_IsKnown) {
  settled_->add(txn_, object_);
  for (size_t i = 0; i < kManyTxns; ++i) settled_->add(Id::random(), Id::random());
  settled_->add(txn_, object_);
  settled_->add(txn_, object_);
  for (size_t i = 0; i < kManyTxns; ++i) settled_->add(Id::random(), Id::random());
  EXPECT_TRUE(settled_->contains(txn_, object_));
}

TEST_F(SettledTxnsTest, CutOrOddFile_IsMadeAgain) {
  settled_->add(txn_, object_);
  settled_.reset();
  ASSERT_EQ(0, ::truncate((dir_ / "settled").c_str(), 100));
  start();
  EXPECT_FALSE(settled_->contains(txn_, object_));
  settled_->add(txn_, object_);
  EXPECT_TRUE(settled_->contains(txn_, object_));
}

// What cannot be a file of its own is kept in memory.
TEST_F(SettledTxnsTest, NoFileToBeHad_WorksWithoutOne) {
  settled_.reset();
  ASSERT_EQ(0, ::unlinkat(dir_.fd(), "settled", 0));
  ASSERT_EQ(0, ::mkdirat(dir_.fd(), "settled", 0700));
  start();
  settled_->add(txn_, object_);
  EXPECT_TRUE(settled_->contains(txn_, object_));
}

}  // namespace
}  // namespace voldfs::store
