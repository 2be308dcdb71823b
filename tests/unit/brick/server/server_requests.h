#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <span>
#include <string>
#include <vector>

#include "brick/client/brick_client.h"
#include "brick/wire/ops.h"

// Requests to a brick that runs.
namespace voldfs::server {

inline const client::Caller kRoot{};

inline wire::Request create_request(const std::string& name) {
  wire::CreateBody body{};
  body.dir.id = kRootId;
  body.dir.epoch = 1;
  body.id = Id::random();
  body.mode = S_IFREG | 0644;
  body.flags = O_RDWR;
  return {wire::Op::kCreate, body, name};
}

inline wire::Request write_request(uint32_t open, uint64_t offset, std::span<const std::byte> data, uint32_t flags = 0) {
  wire::IoBody body{};
  body.open = open, body.offset = offset, body.size = static_cast<uint32_t>(data.size()), body.flags = flags;
  return {wire::Op::kWrite, body, {}, {}, data};
}

inline wire::Request read_request(uint32_t open, uint64_t offset, uint32_t size) {
  wire::IoBody body{};
  body.open = open, body.offset = offset, body.size = size;
  return {wire::Op::kRead, body};
}

inline std::vector<std::byte> pattern(size_t size) {
  std::vector<std::byte> out(size);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i * 7 + i / 251);
  return out;
}

inline uint32_t must_create(client::BrickClient& client, const std::string& name) {
  const auto reply = client.call(create_request(name), kRoot);
  if (!reply) {
    ADD_FAILURE() << "create: " << reply.error().code;
    return 0;
  }
  return reply->body<wire::EntryBody>()->open;
}

}  // namespace voldfs::server
