#include "dht/node.h"

#include <gtest/gtest.h>

namespace voldfs::dht {
namespace {

TEST(Node, InodeNumber_RootAndOthers_AreStableAndApart) {
  EXPECT_EQ(inode_number(kRootId), 1u);
  const Id id = *Id::parse("00112233445566778899aabbccddeeff");
  EXPECT_EQ(inode_number(id), 0x8888888888888888u);
  EXPECT_GT(inode_number(Id{}), 1u);
}

TEST(Node, UpdateRecord_Older_IsIgnored) {
  Node node(kRootId, wire::ObjectType::kDirectory);
  wire::DirRecord record{};
  record.id = kRootId, record.change = 5, record.home = 1;
  node.update_record(record);
  record.change = 4, record.home = 2;
  node.update_record(record);
  EXPECT_EQ(node.record().home, 1);
  record.home_generation = 1, record.change = 0;
  node.update_record(record);
  EXPECT_EQ(node.record().home, 2);
}

TEST(NodeTable, Get_SameId_IsOneNodeWhileHeld) {
  NodeTable table;
  const Id id = Id::random();
  NodePtr node = table.get(id, wire::ObjectType::kFile);
  EXPECT_EQ(table.get(id, wire::ObjectType::kFile), node);
  EXPECT_EQ(table.find(id), node);
  node.reset();
  EXPECT_EQ(table.find(id), nullptr);
}

TEST(NodeTable, Forget_LastLookup_LetsTheNodeGo) {
  NodeTable table;
  const Id id = Id::random();
  Node* node = nullptr;
  {
    NodePtr held = table.get(id, wire::ObjectType::kFile);
    node = held.get();
    table.count(held, 2);
  }
  table.forget(node, 1);
  EXPECT_EQ(table.size(), 1u);
  table.forget(node, 1);
  EXPECT_EQ(table.size(), 0u);
}

TEST(NodeTable, ManyPassing_AreSweptOut) {
  NodeTable table;
  for (int i = 0; i < 100'000; ++i) table.get(Id::random(), wire::ObjectType::kFile);
  EXPECT_EQ(table.size(), 0u);
}

}  // namespace
}  // namespace voldfs::dht
