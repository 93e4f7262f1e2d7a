"""Device memory x time of reservations in SQL: by hour (UTC), and by what their endpoints did.

What is held is counted from a reservation's `counted_until` until now: as *starting* until its
endpoint was ready, then as *idle* for as long as the endpoint's idle time has grown, else as
*busy*. What an endpoint holds after its end was decided goes on as it was. Sums are exact.

Of what crosses into another hour the idle time is shared between the hours in proportion. The
scheduler counts when an hour has ended, so that is a matter of seconds.
"""


def idle_s_now(endpoint: str) -> str:
    """For how long an endpoint has been idle in its life; `endpoint` is the name of its row."""
    since = f"extract(epoch FROM now() - {endpoint}.idle_since)"
    return f"{endpoint}.idle_s + coalesce(greatest({since}, 0), 0)"


def memory_pieces(held: str) -> str:
    """A query of `endpoint_id, tenant, model_id, hour` and three columns of byte-seconds.

    `held`: a table or query that has `worker_id`, `device_bytes`, `counted_until` and
    `idle_s_before`, as `reservations`. Where it is long ago that one was counted it has several
    rows, one for each hour; of one worker's the sum is what it held, whatever the hours.
    """
    return _PIECES.format(held=held, idle_s_now=idle_s_now("e"))


_PIECES = """
    SELECT endpoint_id, tenant, model_id, hour,
        device_bytes * starting_s AS starting_byte_s,
        device_bytes * (serving_s - hour_idle_s) AS busy_byte_s,
        device_bytes * hour_idle_s AS idle_byte_s
    FROM (
        SELECT endpoint_id, tenant, model_id, device_bytes, hour,
            greatest(extract(epoch FROM least(ready_at, hour + interval '1 hour')
                - greatest(began_at, hour)), 0) AS starting_s,
            served.seconds AS serving_s,
            coalesce(round(
                served.seconds * least(idle_s, all_served_s) / nullif(all_served_s, 0), 6), 0)
                AS hour_idle_s
        FROM (
            SELECT *, extract(epoch FROM ended_at - ready_at) AS all_served_s
            FROM (
                SELECT w.endpoint_id, e.tenant, e.model_id, h.device_bytes,
                    h.counted_until AS began_at,
                    greatest(now(), h.counted_until) AS ended_at,
                    greatest(least(coalesce(e.ready_at, now()), now()), h.counted_until)
                        AS ready_at,
                    greatest({idle_s_now} - h.idle_s_before, 0) AS idle_s
                FROM {held} AS h
                JOIN workers AS w ON w.id = h.worker_id
                JOIN endpoints AS e ON e.id = w.endpoint_id
            ) AS intervals
        ) AS measured
        CROSS JOIN LATERAL
            generate_series(date_trunc('hour', began_at, 'UTC'), ended_at, interval '1 hour')
            AS hours (hour)
        CROSS JOIN LATERAL (
            SELECT greatest(extract(epoch FROM least(ended_at, hour + interval '1 hour')
                - greatest(ready_at, hour)), 0) AS seconds
        ) AS served
    ) AS pieces
"""
