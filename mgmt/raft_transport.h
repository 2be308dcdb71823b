#pragma once

#include <functional>
#include <optional>
#include <string>

#include "brick/base/id.h"
#include "mgmt/consensus.h"
#include "mgmt/libraft.h"

namespace voldfs::mgmt {

// Connections between voters: TCP, on which both ends prove that they have the cluster's secret before libraft gets
// them. Messages after that are not encrypted: the peers' network is trusted not to be written to.
//
//   connecting end                                    listening end
//   hello: magic 8, from u64, to u64, cluster 16, nonce 16  ->
//                                                     <-  nonce 16, mac 32 ("accept", hello, nonce)
//   mac 32 ("connect", hello, nonce)                  ->  checked; the stream is libraft's
//
// Integers little-endian. The log's thread only; must outlive the raft_io that it is given to.
class RaftTransport {
 public:
  struct Options {
    Id cluster;
    std::string secret;
    Endpoint listen;
    std::function<std::optional<Endpoint>(uint64_t voter)> resolve;
    std::function<bool(uint64_t voter)> refuse;
  };
  RaftTransport(uv_loop_t* loop, Options options);
  ~RaftTransport();

  raft_uv_transport* get() { return &transport_; }
  // Before raft_start(), so that a used address is a sentence for the operator.
  Explained<void> bind();

 private:
  struct Impl;
  raft_uv_transport transport_{};
  std::unique_ptr<Impl> impl_;
};

}  // namespace voldfs::mgmt
