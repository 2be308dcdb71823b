
#include <algorithm>

#include "brick/base/clock.h"
#include "brick/client/brick_client_impl.h"

namespace voldfs::client {

BrickClient::Impl::Impl(BrickAddress address_in, std::shared_ptr<const ClientOptions> options_in,
                        Notifications notifications_in)
    : address(std::move(address_in)),
      options(std::move(options_in)),
      notifications(std::move(notifications_in)),
      on_brick_down(options->on_brick_down),
      down_timeout_ms(options->down_timeout_ms),
      pool(options->connections_max),
      control(address, *options, notifications,
              {.idle = [this] { pool.close_idle(boottime_ms() - options->idle_close_ms); },
               .on_down = [this] { pool.shut_down_all(); },
               .settle = [this](const Standing& standing) { return settle_slots(standing); }}) {}

Result<void> BrickClient::Impl::settle_slots(const Standing& standing) {
  Result<void> all;
  for (Slot* slot : pool.take_unsure()) {
    const auto settled = settle_slot(*slot, standing);
    slot->unsure = !settled;
    if (!settled) all = settled;
    pool.release(slot);
  }
  return all;
}

// One that asks for nothing. The brick carries it out behind the one before, and from then on refuses that, wherever it still is.
Result<void> BrickClient::Impl::settle_slot(Slot& slot, const Standing& standing) {
  auto connection = Connection::open(address.now(), *options, ConnectionKind::kRequests, standing.session);
  if (!connection) return fail(connection.error());
  if ((*connection)->welcome().incarnation != standing.incarnation) return fail(ECONNRESET);
  wire::Request nothing(wire::Op::kLockWaits, wire::LockOwner{});
  nothing.header().session = standing.session;
  nothing.header().slot = slot.number;
  nothing.header().sequence = ++slot.sequence;
  auto answer = (*connection)->ask_within(nothing, options->connect_timeout_ms);
  if (!answer) return fail(answer.error());  // kSlotBusy too: it is still at work
  pool.set(&slot, std::move(*connection), standing.epoch);
  return {};
}

BrickClient::BrickClient(BrickAddress address, std::shared_ptr<const ClientOptions> options, Notifications notifications)
    : impl_(std::make_unique<Impl>(std::move(address), std::move(options), std::move(notifications))) {}

BrickClient::~BrickClient() { impl_->control.stop(); }

BrickAddress BrickClient::address() const { return impl_->address.now(); }
void BrickClient::move_to(BrickAddress address) { impl_->address.set(std::move(address)); }
bool BrickClient::is_up() const { return impl_->control.is_up(); }
uint64_t BrickClient::round_trips() const { return impl_->round_trips.load(std::memory_order_relaxed); }

void BrickClient::set_on_brick_down(OnBrickDown how, uint32_t down_timeout_ms) {
  impl_->on_brick_down = how;
  impl_->down_timeout_ms = down_timeout_ms;
}

Result<void> BrickClient::connect(uint32_t timeout_ms) {
  const int64_t until = boottime_ms() + timeout_ms;
  for (;;) {
    const auto standing = impl_->control.standing();
    if (standing) return {};
    const int64_t left = until - boottime_ms();
    if (left <= 0) return fail(standing.error().code == EAGAIN ? Error(ETIMEDOUT) : standing.error());
    impl_->control.wait(static_cast<uint32_t>(std::min<int64_t>(left, kBackoffLastMs)));
  }
}

Result<wire::Reply> BrickClient::call(wire::Request request, const Caller& caller, std::span<std::byte> data_into) {
  return call(std::move(request), caller, nullptr, data_into);
}

Result<wire::Reply> BrickClient::call(wire::Request request, const Caller& caller, wire::Reply* refusal,
                                      std::span<std::byte> data_into) {
  PendingCall pending(*this, std::move(request), caller, data_into);
  pending.send();
  const auto result = pending.wait();
  if (result) return std::move(pending.reply());
  if (refusal != nullptr) *refusal = std::move(pending.reply());
  return fail(result.error());
}

}  // namespace voldfs::client
