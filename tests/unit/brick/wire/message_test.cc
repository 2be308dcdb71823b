#include "brick/wire/message.h"

#include <gtest/gtest.h>

#include "brick/wire/frame.h"
#include "brick/wire/op_info.h"
#include "brick/wire/proof.h"

namespace voldfs::wire {
namespace {

std::string hex(const void* data, size_t size) {
  static const char* digits = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < size; ++i) {
    const auto byte = static_cast<const uint8_t*>(data)[i];
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

std::string bytes_of(const Request& request) {
  const Gather message = gather(request);
  std::string out;
  for (size_t i = 0; i < message.count; ++i) {
    out.append(static_cast<const char*>(message.parts[i].iov_base), message.parts[i].iov_len);
  }
  return out;
}

Request lookup() {
  NameBody body{};
  body.dir.id = kRootId;
  body.dir.change = 0x1122334455667788;
  body.dir.epoch = 2;
  Request request(Op::kLookup, body, "name");
  RequestHeader& header = request.header();
  header.magic = kRequestMagic, header.version = kVersion, header.slot = 3, header.flags = kFlagResend;
  header.session = 0x0102030405060708, header.sequence = 9, header.uid = 1000, header.gid = 100, header.pid = 77;
  header.umask = 022, header.map_version = 5;
  return request;
}

// What a byte was in the first release it stays.
TEST(WireGolden, Lookup_Bytes) {
  const std::string bytes = bytes_of(lookup());
  EXPECT_EQ(
      "564c4451" "0100" "1000" "2000" "0400" "0000" "0100" "00000000" "0300" "0000" "0807060504030201"
      "0900000000000000" "e8030000" "64000000" "4d000000" "12000000" "0500000000000000" "0000000000000000"
      "00000000000000000000000000000001" "8877665544332211" "02000000" "00000000" "6e616d65",
      hex(bytes.data(), bytes.size()));
}

TEST(WireGolden, ReplyHeader_Bytes) {
  ReplyBuilder reply;
  reply.header = {kReplyMagic, kVersion, 16, 0, 0, 0, kFlagReplayed, 0, 1011, 2, 3, 4, 5, 6, 0};
  EXPECT_EQ(
      "564c4452" "0100" "1000" "0000" "0000" "0000" "0100" "00000000" "f3030000" "0200000000000000"
      "0300000000000000" "0400000000000000" "0500000000000000" "06000000" "00000000",
      hex(&reply.header, sizeof reply.header));
}

TEST(WireGolden, Proof_Bytes) {
  ProofParts parts;
  parts.client_nonce.fill(1), parts.brick_nonce.fill(2);
  parts.volume.bytes.fill(3), parts.client.bytes.fill(4), parts.brick.bytes.fill(5);
  const std::vector<uint8_t> secret(32, 0xaa);
  const Proof brick = make_proof(secret, Side::kBrick, parts), client = make_proof(secret, Side::kClient, parts);
  EXPECT_EQ("a6cbd1834ccbaf37bbd6706dff9cd776f354eed9e212acf8a0f46e14cbeb0934", hex(brick.data(), brick.size()));
  EXPECT_EQ("d95a9132fe41c9e6677da262870b5de05236fb5f26b1bc12071071c78bb4ed5f", hex(client.data(), client.size()));
  EXPECT_TRUE(same_proof(brick, brick));
  EXPECT_FALSE(same_proof(brick, client));
}

TEST(CheckHeader, EachLimit_IsRefused) {
  const RequestHeader good = lookup().header();
  EXPECT_TRUE(check_header(good));
  const auto refused = [&good](auto change) {
    RequestHeader header = good;
    change(header);
    return !check_header(header).has_value();
  };
  EXPECT_TRUE(refused([](auto& h) { h.magic ^= 1; }));
  EXPECT_TRUE(refused([](auto& h) { h.version = 2; }));
  EXPECT_TRUE(refused([](auto& h) { h.body_size = kBodyMax + 1; }));
  EXPECT_TRUE(refused([](auto& h) { h.name_size = kNameMax + 1; }));
  EXPECT_TRUE(refused([](auto& h) { h.name2_size = kTextMax + 1; }));
  EXPECT_TRUE(refused([](auto& h) { h.data_size = kDataMax + 1; }));
  EXPECT_TRUE(refused([](auto& h) { h.slot = kSlotsMax; }));
  EXPECT_TRUE(refused([](auto& h) { h.flags = 0x8000; }));
  EXPECT_TRUE(refused([](auto& h) { h.reserved2 = 1; }));
  EXPECT_TRUE(refused([](auto& h) { h.umask = 010000; }));
}

TEST(CheckName, WhatIsNoName_IsRefused) {
  EXPECT_TRUE(check_name("a"));
  EXPECT_TRUE(check_name(std::string(255, 'x')));
  EXPECT_EQ(ENAMETOOLONG, check_name(std::string(256, 'x')).error().code);
  for (const std::string& bad : {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("a\0b", 3)}) {
    EXPECT_EQ(EINVAL, check_name(bad).error().code);
  }
}

TEST(Xattrs, AppendThenParse_GivesThemBack) {
  std::vector<std::byte> list;
  const std::byte value[3] = {std::byte{1}, std::byte{2}, std::byte{3}};
  append_xattr(list, "user.a", value);
  append_xattr(list, "user.empty", {});
  const auto parsed = parse_xattrs(list);
  ASSERT_TRUE(parsed);
  ASSERT_EQ(2u, parsed->size());
  EXPECT_EQ("user.a", (*parsed)[0].name);
  EXPECT_EQ(3u, (*parsed)[0].value.size());
  EXPECT_TRUE((*parsed)[1].value.empty());
  for (size_t cut = 1; cut < list.size(); ++cut) {
    const auto part = parse_xattrs(std::span(list).first(cut));
    if (part) {
      EXPECT_EQ(1u, part->size());
    }
  }
}

TEST(Gather, Advance_AnyNumberOfBytes_LeavesTheRest) {
  const Request request = lookup();
  const std::string whole = bytes_of(request);
  for (size_t sent = 0; sent <= whole.size(); ++sent) {
    Gather message = gather(request);
    message.advance(sent);
    std::string rest;
    for (size_t i = 0; i < message.count; ++i) {
      rest.append(static_cast<const char*>(message.parts[i].iov_base), message.parts[i].iov_len);
    }
    EXPECT_EQ(whole.substr(sent), rest);
    EXPECT_EQ(rest.size(), message.bytes);
  }
}

TEST(OpInfo, EveryOperation_IsFoundByItsNumber) {
  for (const OpInfo& info : all_op_infos()) EXPECT_EQ(&info, op_info(info.op));
  EXPECT_EQ(nullptr, op_info(static_cast<Op>(0)));
  EXPECT_EQ(nullptr, op_info(static_cast<Op>(9)));
  EXPECT_EQ(nullptr, op_info(static_cast<Op>(60'000)));
}

}  // namespace
}  // namespace voldfs::wire
