"""What must always hold in the catalogue, whatever went on in it: each check gives the damage that it finds."""

from __future__ import annotations

from pyvospace.db.pool import Database
from pyvospace.db.usage import check_usage
from pyvospace.model.uris import MAX_DEPTH

CHECKS = {
    "the root is no container of id 1, or there are several": """
        select (count(*) filter (where parent_id is null), array_agg(id) filter (where parent_id is null))::text
          from nodes
        having count(*) filter (where parent_id is null and id = 1 and type = 'ContainerNode') <> 1
            or count(*) filter (where parent_id is null) <> 1""",
    "unreachable from the root": """
        with recursive reached as (
            select id from nodes where id = 1 or parent_id = 0 and id in (select node_id from trash)
            union
            select n.id from nodes n join reached r on n.parent_id = r.id
        )
        select id::text from nodes where id not in (select id from reached)""",
    "child of what is no container": """
        select n.id::text from nodes n left join nodes p on p.id = n.parent_id
         where n.parent_id <> 0 and p.type is distinct from 'ContainerNode'""",
    "name twice in a container": """
        select format('%s/%s', parent_id, name) from nodes group by parent_id, name having count(*) > 1""",
    "container without a place": """
        select n.id::text from nodes n left join containers c on c.id = n.id
         where n.type = 'ContainerNode' and c.id is null""",
    "place without a container": """
        select c.id::text from containers c left join nodes n on n.id = c.id
         where c.id <> 0 and n.type is distinct from 'ContainerNode'""",
    "place that differs from the way by names": """
        with recursive way as (
            select id, id::text as path from nodes where parent_id is null
            union all
            select 0, '0'
            union all
            select n.id, w.path || '.' || n.id from nodes n join way w on n.parent_id = w.id
             where n.type = 'ContainerNode' and length(w.path) < 5000
        )
        select format('%s: %s instead of %s', c.id, c.path, w.path)
          from containers c left join way w on w.id = c.id
         where c.path::text is distinct from w.path""",
    "deeper than a path can be written": f"""
        select n.id::text from nodes n join containers c on c.id = n.parent_id where nlevel(c.path) > {MAX_DEPTH}""",
    "mutable in an immutable container": """
        select n.id::text from nodes n join nodes p on p.id = n.parent_id where p.immutable and not n.immutable""",
    "place that is immutable otherwise than its container": """
        select c.id::text from containers c join nodes n on n.id = c.id where n.immutable <> c.immutable""",
    "bytes of versions that their node does not count": """
        select n.id::text from nodes n left join versions v on v.node_id = n.id
         group by n.id having n.kept <> coalesce(sum(v.size), 0) or n.last_version < coalesce(max(v.number), 0)""",
    "version of no node": """
        select v.node_id::text from versions v left join nodes n on n.id = v.node_id where n.id is null""",
    "entry of the trash that is not there, or under another name": """
        select t.id::text from trash t left join nodes n on n.id = t.node_id
         where n.parent_id is distinct from 0 or n.name <> n.id::text""",
    "node whose storage is unknown": """
        select n.id::text from nodes n left join storages s on s.id = n.storage_id
         where n.storage_id is not null and s.id is null""",
    "node whose owner is unknown": """
        select n.id::text from nodes n left join users u on u.id = n.owner_id where u.id is null""",
    "id that the sequence will give once more": """
        select max(id)::text from nodes
        having max(id) > 1 and max(id) > (select last_value from nodes_id_seq)""",
}
"""Statements that give a row of one text for each damage."""


async def damages(database: Database) -> list[str]:
    """Give what is wrong in the catalogue, in words."""
    found = [f"{what}: {row[0]}" for what, statement in CHECKS.items() for row in await database.fetch(statement)]
    return [*found, *(f"wrong counter: {one}" for one in await check_usage(database))]
