#pragma once

#include <fuse_lowlevel.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "brick/base/result.h"
#include "brick/base/unique_fd.h"
#include "fuse/dev_fuse_transport.h"
#include "fuse/fuse_protocol.h"
#include "fuse/mount.h"
#include "fuse/ring_transport.h"
#include "fuse/workers.h"

namespace voldfs::fuse {

// A mounted /dev/fuse being served: libfuse's session, which decodes requests and encodes replies, over a
// transport of our own, and the workers. Made and ended by the main thread.
class Session {
 public:
  // Answers INIT and starts serving. `mount.session` is set. The mount outlives the session.
  static Explained<std::unique_ptr<Session>> start(Mount& mount, unique_fd device);
  ~Session();  // REQUIRES: the mount has ended, or the process is about to
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Until the mount has ended and everything is answered; false after `timeout_ms` (0: without end).
  bool wait(uint32_t timeout_ms);
  // Until the mount has ended; requests may still be at work.
  void wait_over() { workers_.wait_over(); }
  bool over_io_uring() const { return !queues_.empty(); }

 private:
  Session(Mount& mount, unique_fd device);
  Explained<void> negotiate();
  Explained<void> serve_caches();
  Result<void> start_workers();
  void process(std::span<std::byte> request);
  void process_statx(const protocol::InHeader& header, const protocol::StatxIn& in);

  Mount& mount_;
  DevFuseTransport transport_;
  fuse_session* session_ = nullptr;
  Workers workers_;

  // FUSE over io_uring: a queue and its workers for each CPU; workers_ then get what still comes through /dev/fuse
  // (FORGET, INTERRUPT). Empty: everything does.
  struct Queue {
    Queue(int device, unsigned cpu, Workers::Process process) : transport(device, cpu), workers(transport, std::move(process)) {}
    RingTransport transport;
    Workers workers;
  };
  bool ring_offered_ = false;   // by the kernel's INIT, and taken by our answer
  std::vector<std::unique_ptr<Queue>> queues_;
};

}  // namespace voldfs::fuse
