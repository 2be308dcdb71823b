#pragma once

#include <functional>
#include <optional>
#include <string>

#include "brick/base/id.h"
#include "mgmt/consensus.h"
#include "mgmt/libraft.h"

namespace voldfs::mgmt {

// Connections between voters: TCP with TLS (tls.h), both ends with certificates of the cluster.
//
//   connecting end                                    listening end
//   hello: magic 8, from u64, to u64, cluster 16  ->
//                                                 <-  magic 8
//   the stream is libraft's
//
// Integers little-endian. The log's thread only; must outlive the raft_io that it is given to.
class RaftTransport {
 public:
  struct Options {
    Id cluster;
    std::shared_ptr<const Tls> tls;
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
