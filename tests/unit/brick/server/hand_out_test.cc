#include "brick/server/hand_out.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "tests/unit/brick/server/running_brick.h"

namespace voldfs::server {
namespace {

using client::Caller;
using wire::Op;

Caller taker() {
  Caller caller;
  caller.takes_descriptor = true;
  return caller;
}

class HandOut : public testing::Test {
 protected:
  Result<wire::Reply> create(client::BrickClient& client, const std::string& name, uint32_t mode = 0644, const Caller& caller = taker()) {
    wire::CreateBody body{};
    body.dir.id = kRootId;
    body.dir.epoch = 1;
    body.id = Id::random();
    body.mode = S_IFREG | mode;
    body.flags = O_RDWR;
    return client.call({Op::kCreate, body, name}, caller);
  }
  Result<wire::Reply> open(client::BrickClient& client, const wire::ObjectRef& object, uint32_t flags, uint32_t reclaim = 0) {
    wire::Request request(Op::kOpen, wire::OpenBody{object, flags, reclaim});
    if (reclaim != 0) request.header().flags |= wire::kFlagReclaim;
    return client.call(std::move(request), taker());
  }
  Result<wire::Reply> getattr(client::BrickClient& client, const wire::ObjectRef& object) {
    return client.call({Op::kGetattr, wire::ObjectBody{object, 0, 0}}, {});
  }
  void release(client::BrickClient& client, uint32_t open) {
    EXPECT_TRUE(client.call({Op::kRelease, wire::OpenRef{open, 0, 0}}, {}).has_value());
  }
  uint64_t count(const char* what) const {
    return nlohmann::json::parse(brick_.server->status())["descriptors"][what].get<uint64_t>();
  }
  std::unique_ptr<client::BrickClient> local() { return brick_.connect({}, {}, true); }
  std::unique_ptr<client::BrickClient> remote() { return brick_.connect({}, {}, false); }

  RunningBrick brick_;
};

TEST_F(HandOut, UnixSocket_TheFileItself_PinnedUntilItsRelease) {
  const auto client = local(), other = remote();
  auto created = create(*client, "f");
  ASSERT_TRUE(created.has_value());
  ASSERT_TRUE(created->descriptor.valid());
  EXPECT_EQ(::write(created->descriptor.get(), "text", 4), 4);
  const auto entry = *created->body<wire::EntryBody>();
  EXPECT_TRUE(entry.attr.flags & wire::kAttrPinned);
  EXPECT_EQ(count("pinned"), 1u);

  auto seen = getattr(*other, entry.object);
  ASSERT_TRUE(seen.has_value());
  EXPECT_EQ(seen->body<wire::EntryBody>()->attr.size, 4u);
  EXPECT_TRUE(seen->body<wire::EntryBody>()->attr.flags & wire::kAttrPinned);
  EXPECT_GT(seen->header.grant_ms, 0u);  // of its owner, nothing else

  created->descriptor.reset();
  release(*client, entry.open);
  EXPECT_EQ(count("pinned"), 0u);
  EXPECT_EQ(count("held"), 0u);
  seen = getattr(*other, entry.object);
  ASSERT_TRUE(seen.has_value());
  EXPECT_FALSE(seen->body<wire::EntryBody>()->attr.flags & wire::kAttrPinned);
  EXPECT_GT(seen->header.grant_ms, 0u);
}

TEST_F(HandOut, NotAskedFor_OrOverTcp_Nothing) {
  const auto near = local(), far = remote();
  const auto without = create(*near, "f", 0644, {});
  ASSERT_TRUE(without.has_value());
  EXPECT_FALSE(without->descriptor.valid());
  const auto over_tcp = create(*far, "g");
  ASSERT_TRUE(over_tcp.has_value());
  EXPECT_FALSE(over_tcp->descriptor.valid());
  EXPECT_EQ(count("held"), 0u);
}

TEST_F(HandOut, FilesThatAWriteTakesPrivilegesFrom_AreKept) {
  const auto client = local();
  for (const uint32_t mode : {04755u, 02755u}) {
    const auto created = create(*client, "f" + std::to_string(mode), mode);
    ASSERT_TRUE(created.has_value());
    EXPECT_FALSE(created->descriptor.valid()) << std::oct << mode;
  }
  EXPECT_EQ(count("held"), 0u);
}

TEST_F(HandOut, OpenForReading_PinsNothing) {
  const auto client = local();
  const auto entry = *create(*client, "f", 0644, {})->body<wire::EntryBody>();
  const auto opened = open(*client, entry.object, O_RDONLY);
  ASSERT_TRUE(opened.has_value());
  EXPECT_TRUE(opened->descriptor.valid());
  EXPECT_EQ(count("held"), 1u);
  EXPECT_EQ(count("pinned"), 0u);
}

TEST_F(HandOut, WhatOthersKeep_IsTakenBackBeforeTheReply) {
  std::atomic<int> recalls = 0;
  client::Notifications notifications;
  notifications.recall = [&recalls](const wire::RecallBody& recall, std::string_view) {
    EXPECT_EQ(recall.what, wire::kRecallAttr);
    recalls++;
  };
  const auto client = local(), reader = brick_.connect(std::move(notifications));
  const auto entry = *create(*client, "f", 0644, {})->body<wire::EntryBody>();
  ASSERT_GT(getattr(*reader, entry.object)->header.grant_ms, 0u);
  ASSERT_TRUE(open(*client, entry.object, O_WRONLY).has_value());
  EXPECT_EQ(recalls, 1);
}

TEST_F(HandOut, Reclaimed_IsPinnedAgain_WithoutADescriptor) {
  const auto client = local();
  const auto entry = *create(*client, "f", 0644, {})->body<wire::EntryBody>();
  const auto again = open(*client, entry.object, O_RDWR, entry.open);
  ASSERT_TRUE(again.has_value());
  EXPECT_FALSE(again->descriptor.valid());
  EXPECT_EQ(count("pinned"), 1u);
  ASSERT_TRUE(open(*client, entry.object, O_RDWR, entry.open).has_value());  // asked twice
  release(*client, entry.open);
  EXPECT_EQ(count("pinned"), 0u);
  EXPECT_EQ(count("held"), 0u);
}

TEST_F(HandOut, ClientGone_ApplicationStillWrites_StaysPinned) {
  auto client = local();
  auto created = create(*client, "f");
  ASSERT_TRUE(created.has_value());
  unique_fd application = std::move(created->descriptor);
  client.reset();  // says goodbye: the session and its opens end
  EXPECT_TRUE(eventually([&] { return count("held") == 0; }));
  EXPECT_EQ(count("pinned"), 1u);
  application.reset();
  EXPECT_TRUE(eventually([&] { return count("pinned") == 0; }));
}

}  // namespace
}  // namespace voldfs::server
