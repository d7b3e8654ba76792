# SPDX-License-Identifier: Apache-2.0
"""One table of everything."""


def verdict(row):
    return {True: "pass", False: "MISSED", None: "-"}[row.get("pass")]


def percent(value, digits=2):
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def counted_line(row):
    if row.get("not_supported"):
        return [row["case"], "-", "not supported", "-", "-"]
    wanted = "maximum" if row["rate_wanted"] == "max" else f"{row['rate_wanted']:,}/s"
    return [f"{row['case']} at {wanted}", f"{row['rate']:,}/s",
            f"{row['kernel_responses']:,} of {row['client_answered']:,} = {percent(row['counted'], 3)}", ">= 99.9 %",
            verdict(row)]


def lossy_line(row):
    line = counted_line(row)
    line[0] = row["case"]
    line[2] += f", {percent(row['timed'], 1)} timed"
    return line


def kinds_line(row):
    line = counted_line(row)
    longest = "" if row["client_longest_us"] is None else f", longest {row['longest_us']:,} of {row['client_longest_us']:,} us"
    line[2] += f", {percent(row['timed'])} timed{longest}"
    line[3] = ">= 99.99 %, 99.9 % timed"
    return line


def timed_line(row):
    return [f"first byte at {row['load']:.0%} load", f"{row['rate']:,}/s",
            f"p50 {row['kernel_p50_us']} us ({percent(row['error_p50'], 1)}), "
            f"p99 {row['kernel_p99_us']} us ({percent(row['error_p99'], 1)})"
            + (f", capture dropped {row['capture_dropped']}" if row["capture_dropped"] else ""), "within 5 %",
            verdict(row)]


def cost_line(row):
    rate = f"{row['rate']:,.0f}/s" if "rate" in row else f"{row['rps_off']:,.0f}/s" if "rps_off" in row else "-"
    if "ratio_empty_median" in row:
        what = f"ratio {row['ratio_median']:.3f}, an empty pair {row['ratio_empty_median']:.3f}; {row['pairs']} pairs"
        target = f">= {row['target']:.3f}"
    elif "ratio_median" in row:
        what = (f"ratio {row['ratio_median']:.3f} ({row['cpu_us_on']:.2f} us on, {row['cpu_us_off']:.2f} us off); "
                f"{row['pairs']} pairs")
        target = f"<= {row['target']:.2f} at 40,000/s"
    elif "ns_a_request" in row:
        what = (f"{row['ns_a_request']:.0f} ns in {row['runs_a_request']:.1f} runs, {row['ns_a_request_and_end']:.0f} "
                f"an end; an empty pair {row['ns_empty']:.0f}")
        target = f"<= {row['target']} ns"
    elif "millicores" in row:
        what = f"{row['millicores']} millicores, {row['rss_mb']} MB"
        target = f"<= {row['target']} millicores"
    else:
        what, target = row.get("why", "-"), "-"
    return [row["case"], rate, what, target, verdict(row)]


def against_line(row):
    return [row["case"], f"{row['rate']:,}/s",
            f"ratio {row['ratio_against']:.3f} ({row['ns_this']:.0f} ns, the other build {row['ns_other']:.0f} ns; an empty "
            f"pair {row['ns_empty']:.0f}); {row['pairs']} pairs", f"<= {row['target']}", verdict(row)]


LINES = {"counted": counted_line, "kinds": kinds_line, "lossy": lossy_line, "timed": timed_line, "cost": cost_line, "against": against_line}


def line(part, row):
    return LINES[part](row)


def table(result):
    head = ["WHAT", "RATE", "MEASURED", "TARGET", "VERDICT"]
    rows = [line(part, row) for part in LINES for row in result.get(part, [])]
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    text = "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths)).rstrip() for r in [head, *rows])
    if result["preliminary"]:
        text += "\nPreliminary: " + "; ".join(result["preliminary"])
    return text + "\n"
