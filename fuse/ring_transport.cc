#include "fuse/ring_transport.h"

#include <liburing.h>
#include <sched.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "fuse/fuse_protocol.h"
#include "fuse/limits.h"

namespace voldfs::fuse {
namespace {

constexpr size_t kPage = 4096;

// What an entry shares with the kernel: a page that ends with the headers put before the payload for libfuse, which
// wants a message in one piece; the payload, at the start of a page; and the kernel's header block.
class EntryMemory {
 public:
  static std::unique_ptr<EntryMemory> map() {
    void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    return std::unique_ptr<EntryMemory>(new EntryMemory(static_cast<std::byte*>(memory)));
  }
  ~EntryMemory() { ::munmap(memory_, kBytes); }
  EntryMemory(const EntryMemory&) = delete;
  EntryMemory& operator=(const EntryMemory&) = delete;

  protocol::RingHeaders& headers() { return *reinterpret_cast<protocol::RingHeaders*>(memory_); }
  std::byte* payload() { return memory_ + 2 * kPage; }

 private:
  static constexpr size_t kBytes = 2 * kPage + kPayloadMax;
  static_assert(sizeof(protocol::RingHeaders) <= kPage);
  explicit EntryMemory(std::byte* memory) : memory_(memory) {}
  std::byte* const memory_;
};

// 0 or an errno.
int make_ring(io_uring& ring) {
  io_uring_params params{};
  params.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  if (const int made = io_uring_queue_init_params(2, &ring, &params); made < 0) return -made;
  // A child that asks the mount (mount_point.cc) would keep the ring by its memory, and by the ring the connection, when this process has gone.
  const int kept = io_uring_ring_dontfork(&ring);
  if (kept < 0) io_uring_queue_exit(&ring);
  return -kept;
}

// The worker's thread only, but for send(): that may come from another thread when the operation has parked its request
// (a lock that is waited for). Then finish() waits for it.
class RingChannel final : public Channel {
 public:
  static Result<std::shared_ptr<Channel>> open(int device, unsigned queue) {
    auto channel = std::make_shared<RingChannel>(device, queue);
    channel->memory_ = EntryMemory::map();
    if (!channel->memory_) return fail_errno();
    return channel;
  }
  RingChannel(int device, unsigned queue) : device_(device), queue_(queue) {}
  ~RingChannel() override {
    if (state_ != State::kClosed) io_uring_queue_exit(&ring_);
  }

  Result<std::span<std::byte>> receive(std::span<std::byte>) override {
    if (state_ == State::kClosed) {
      if (auto open = open_ring(); !open) return fail(open.error());
    } else {
      prepare(protocol::kRingCommitAndFetch);
    }
    state_ = State::kListening;
    for (;;) {
      const int result = io_uring_submit_and_wait(&ring_, 1);
      if (result < 0 && result != -EINTR) return fail(-result);
      io_uring_cqe* completion = nullptr;
      if (io_uring_peek_cqe(&ring_, &completion) != 0) continue;
      const int error = completion->res;
      io_uring_cqe_seen(&ring_, completion);
      if (error == -ENOTCONN || error == -ECONNABORTED || error == -ENODEV) return std::span<std::byte>{};  // unmounted
      if (error != 0) return fail(-error);
      return message();
    }
  }

  Result<void> send(const iovec* parts, int count) override {
    const auto* header = static_cast<const protocol::OutHeader*>(parts[0].iov_base);
    if (header->unique != unique_ || state_ != State::kWorking) return fail(ENOENT);
    std::byte* at = memory_->payload();
    for (int i = 1; i < count; ++i) {
      if (parts[i].iov_base != at) std::memmove(at, parts[i].iov_base, parts[i].iov_len);
      at += parts[i].iov_len;
    }
    protocol::RingHeaders& headers = memory_->headers();
    std::memcpy(headers.in_out, header, sizeof *header);
    headers.entry.payload_size = static_cast<uint32_t>(at - memory_->payload());
    state_ = State::kAnswered;
    state_.notify_one();
    return {};
  }

  void finish() override { state_.wait(State::kWorking); }

  std::span<std::byte> payload_room() override {
    if (request_payload_ != 0) return {};  // still the request's: a name, a value, the data of a write
    return {memory_->payload(), kPayloadMax};
  }

 private:
  enum class State { kClosed, kListening, kWorking, kAnswered };

  // On the worker's own thread: the ring knows one submitter. The thread stays on the queue's CPU, where the
  // application that waits for it has just stopped running, so that nobody wakes a sleeping core.
  Result<void> open_ring() {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(queue_, &cpus);
    static_cast<void>(::sched_setaffinity(0, sizeof cpus, &cpus));  // refused in a smaller cpuset: slower, no less right
    if (const int error = make_ring(ring_); error != 0) return fail(error);
    parts_[0] = {&memory_->headers(), sizeof(protocol::RingHeaders)};
    parts_[1] = {memory_->payload(), kPayloadMax};
    prepare(protocol::kRingRegister);
    return {};
  }

  void prepare(uint32_t command) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) std::abort();  // never full: one command at a time
    std::memset(entry, 0, 128);
    entry->opcode = IORING_OP_URING_CMD;
    entry->fd = device_;
    entry->cmd_op = command;
    protocol::RingCommand arguments{};
    arguments.queue = static_cast<uint16_t>(queue_);
    arguments.commit_id = command == protocol::kRingCommitAndFetch ? memory_->headers().entry.commit_id : 0;
    if (command == protocol::kRingRegister) {
      entry->addr = reinterpret_cast<uint64_t>(parts_);
      entry->len = 2;
    }
    std::memcpy(entry->cmd, &arguments, sizeof arguments);
  }

  // Header and the operation's own structure, moved right before the payload.
  Result<std::span<std::byte>> message() {
    protocol::RingHeaders& headers = memory_->headers();
    protocol::InHeader header;
    std::memcpy(&header, headers.in_out, sizeof header);
    request_payload_ = headers.entry.payload_size;
    const size_t operation = header.len - sizeof header - request_payload_;
    if (header.len < sizeof header + request_payload_ || operation > sizeof headers.operation) return fail(EPROTO);
    std::byte* const start = memory_->payload() - operation - sizeof header;
    std::memcpy(start, &header, sizeof header);
    std::memcpy(start + sizeof header, headers.operation, operation);
    unique_ = header.unique;
    state_ = State::kWorking;
    return std::span<std::byte>{start, header.len};
  }

  const int device_;
  const unsigned queue_;
  std::unique_ptr<EntryMemory> memory_;
  io_uring ring_{};
  iovec parts_[2]{};
  std::atomic<State> state_ = State::kClosed;
  std::atomic<uint64_t> unique_ = 0;
  size_t request_payload_ = 0;
};

}  // namespace

bool can_make_rings() {
  io_uring ring;
  if (make_ring(ring) != 0) return false;
  io_uring_queue_exit(&ring);
  return true;
}

Result<std::shared_ptr<Channel>> RingTransport::open_channel() { return RingChannel::open(device_, queue_); }

}  // namespace voldfs::fuse
