#pragma once

#include "brick/client/brick_client.h"
#include "brick/client/connection_pool.h"
#include "brick/client/control.h"

namespace voldfs::client {

struct BrickClient::Impl {
  Impl(BrickAddress address_in, std::shared_ptr<const ClientOptions> options_in, Notifications notifications_in);

  // Slots whose last request was given up, and may still be on its way: a later one ends that.
  Result<void> settle_slots(const Standing& standing);
  Result<void> settle_slot(Slot& slot, const Standing& standing);

  MovingAddress address;
  const std::shared_ptr<const ClientOptions> options;
  const Notifications notifications;
  std::atomic<OnBrickDown> on_brick_down;
  std::atomic<uint32_t> down_timeout_ms;
  std::atomic<uint64_t> round_trips{0};
  ConnectionPool pool;
  Control control;  // last: its thread uses all the others
};

}  // namespace voldfs::client
